"""A stage run ahead of its consumer in a thread of its own, with a queue bounded in bytes."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, Self, TypeVar

from upres.engine.core.errors import Interrupted
from upres.engine.core.frame import Shape

QUEUE_BYTES = 64 << 20  # what may wait between two stages; at least one frame always may
QUEUE_FRAMES = 16  # more of them, however small, would not make any stage wait less

T = TypeVar("T")


class Stage(Generic[T]):
    """Items made in a thread ahead of the consumer: from entering its `with` on, to leaving it.

    budget: bytes that may wait in the queue; one item may always wait. With 0 no other is started before that one is taken, so that
    what is made of a live source is made of its newest, however slow the consumer. size: the bytes of an item. stop: called from
    the thread of the consumer, to make the item that is being made end early.
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
        """Stop the thread after the item it works on, wait for it, and so for `items` to be closed."""
        self.stop()
        self._thread.join()
        self._queue.clear()

    def results(self) -> Generator[T, None, None]:
        """Yield the same items in order, then raise the error that ended them; Interrupted once the stage was stopped."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._may_go() or self._ended or self._closed)
                if self._closed:
                    raise Interrupted("nothing more is made")
                if not self._queue:
                    break
                item = self._taken()
            yield item
            del item  # or this frame would be kept while the next is waited for
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End what waits for this stage and what the stage waits for, from any thread, as often as one likes."""
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
        except BaseException as error:  # handed to the consumer, who raises it
            self._error = error
        finally:
            self._finish()

    def _may_go(self) -> bool:
        return bool(self._queue)

    def _taken(self) -> T:
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
    """Bound the bytes of frames of this shape that may wait between two stages: of one frame at least."""
    return max(shape.frame_bytes, min(QUEUE_BYTES, QUEUE_FRAMES * shape.frame_bytes))
