"""Pipeline stage that runs ahead of its consumer in its own thread, with a queue bounded in bytes."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, Self, TypeVar

from upres.engine.core.errors import Interrupted
from upres.engine.core.frame import Shape

QUEUE_BYTES = 64 << 20  # limit on the queue between two stages; one frame always fits
QUEUE_FRAMES = 16  # limit on the number of its frames: more of them would not reduce the waiting time of any stage

T = TypeVar("T")


class Stage(Generic[T]):
    """Iterator whose items are produced by a thread ahead of the consumer, between entering and leaving its `with` block.

    budget: limit in bytes on the queue; one item always fits. With 0, the producer does not start an item before the consumer has
    received the previous one, so that each result of a live source comes from the newest input even if the consumer is slow.
    size: returns the bytes of an item. stop: called by `stop` and by `__exit__`, to abort the item in production early.
    """

    def __init__(
        self,
        items: Iterable[T],
        *,
        budget: int,
        size: Callable[[T], int],
        name: str,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._items = items
        self._budget = budget
        self._size = size
        self._stop = stop
        self._queue: deque[T] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread after its current item, and wait until it has ended and closed `items`."""
        self.stop()
        self._thread.join()
        self._queue.clear()

    def results(self) -> Generator[T, None, None]:
        """Yield the items in order, then raise the error that ended production, if any; raise Interrupted after `stop`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._can_pop() or self._ended or self._closed)
                if self._closed:
                    raise Interrupted("the stage was stopped")
                if not self._queue:
                    break
                item = self._pop()
            yield item
            del item  # otherwise this item would stay in memory while the consumer waits for the next
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Unblock the consumer and the producer, from any thread. May be called repeatedly."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stop()

    def _produce(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
                del item
        except BaseException as error:  # passed to the consumer, which raises it
            self._error = error
        finally:
            self._finish()

    def _can_pop(self) -> bool:
        return bool(self._queue)

    def _pop(self) -> T:
        item = self._queue.popleft()
        self._bytes -= self._size(item)
        self._changed.notify_all()
        return item

    def _put(self, item: T) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(item))
            if self._closed:
                return False
            self._queue.append(item)
            self._bytes += self._size(item)
            self._changed.notify_all()
            if not self._budget:
                self._changed.wait_for(lambda: self._closed or not self._queue)
            return True

    def _fits(self, item: T) -> bool:
        return not self._queue or self._bytes + self._size(item) <= self._budget

    def _finish(self) -> None:
        try:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # as above
            self._error = self._error or error
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def queue_budget(shape: Shape) -> int:
    """Return the limit in bytes on a queue of frames of this shape between two stages: at least one frame."""
    return max(shape.frame_bytes, min(QUEUE_BYTES, QUEUE_FRAMES * shape.frame_bytes))
