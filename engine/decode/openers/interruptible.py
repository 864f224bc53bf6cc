"""A stream whose `read` can be ended from another thread, whatever it waits for."""

import threading

from upres.engine.core.errors import Interrupted
from upres.engine.decode.source import Readable


class Interruptible:
    """Reads a stream in a thread of its own, only when asked to, so that nobody has to wait for one that blocks.

    A read that was interrupted leaves that thread behind until the stream answers; what it answers is dropped.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._answer: bytes | BaseException | None = None
        self._closed = self._busy = False
        self._thread: threading.Thread | None = None

    def read(self, size: int = 65536, /) -> bytes:
        """Read at most `size` bytes; Interrupted once `close` was called."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._serve, name="source", daemon=True)
                self._thread.start()
            self._wanted = size
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answer is not None or self._closed)
            answer, self._answer = self._answer, None
            if self._closed:
                raise Interrupted("the source is not read any more")
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    def close(self) -> None:
        """End a read that waits, and every later one; from any thread, and as often as one likes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            busy = self._busy
        if self._thread is not None and not busy:
            self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._closed)
                if self._closed or self._wanted is None:
                    return
                size, self._wanted = self._wanted, None
                self._busy = True
            try:
                answer: bytes | BaseException = self._source.read(size)
            except BaseException as error:  # raised where the bytes were asked for
                answer = error
            with self._changed:
                self._answer, self._busy = answer, False
                self._changed.notify_all()
