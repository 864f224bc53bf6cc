"""A stage run ahead of its consumer in a thread of its own, with a queue bounded in bytes."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

from upres.engine.core.frame import Shape

QUEUE_BYTES = 64 << 20  # what may wait between two stages; at least one frame always may
QUEUE_FRAMES = 16  # more of them, however small, would not make any stage wait less

T = TypeVar("T")


def ahead(
    items: Iterable[T], *, budget: int, size: Callable[[T], int], name: str, stop: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Yield the same items, made in a thread while the consumer works on earlier ones.

    budget: bytes that may wait in the queue; one item may always wait. size: the bytes of an item.
    An error upstream is raised here, once, as itself, after the items before it. Closing this generator stops the thread
    after the item it works on and closes `items`. stop: called then, to make that item end early.
    """
    stage = Stage(items, budget=budget, size=size, name=name)
    try:
        yield from stage.results()
    finally:
        stage.close(stop)


class Stage(Generic[T]):
    """The queue between a producing thread and a consuming one. Arguments as of `ahead`."""

    def __init__(self, items: Iterable[T], *, budget: int, size: Callable[[T], int], name: str) -> None:
        self._items = items
        self._budget = budget
        self._size = size
        self._queue: deque[T] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)
        self._thread.start()

    def results(self) -> Generator[T, None, None]:
        """Yield items until the producer has ended; raise its error."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ended)
                if not self._queue:
                    break
                item = self._taken()
            yield item
            del item  # or this frame would be kept while the next is waited for
        if self._error is not None:
            raise self._error

    def waiting(self) -> T | None:
        """Take an item if one is there."""
        with self._changed:
            return self._taken() if self._queue else None

    def close(self, stop: Callable[[], None]) -> None:
        """Stop the producer after the item it works on, and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        stop()
        self._thread.join()
        self._queue.clear()

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
    frame = shape.width * shape.height * 3
    return max(frame, min(QUEUE_BYTES, QUEUE_FRAMES * frame))
