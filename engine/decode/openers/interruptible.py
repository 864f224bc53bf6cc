"""A stream whose blocking `read` can be interrupted from another thread."""

import threading

from upres.engine.core.errors import Interrupted
from upres.engine.decode.source import Readable


class Interruptible:
    """Wrapper that reads a stream in a separate thread, one read per request, so that the caller can be interrupted.

    After an interruption the thread remains until the stream's `read` returns; its result is discarded.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._requested: int | None = None
        self._result: bytes | BaseException | None = None
        self._closed = self._busy = False
        self._thread: threading.Thread | None = None

    def read(self, size: int = 65536, /) -> bytes:
        """Return at most `size` bytes. Raises Interrupted once `close` was called."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._serve, name="source", daemon=True)
                self._thread.start()
            self._requested = size
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._result is not None or self._closed)
            result, self._result = self._result, None
            if self._closed:
                raise Interrupted("reading of the source was stopped")
        if isinstance(result, BaseException):
            raise result
        assert result is not None
        return result

    def close(self) -> None:
        """Interrupt a pending read and all later ones; safe to call from any thread, any number of times."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            busy = self._busy
        if self._thread is not None and not busy:
            self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._requested is not None or self._closed)
                if self._closed or self._requested is None:
                    return
                size, self._requested = self._requested, None
                self._busy = True
            try:
                result: bytes | BaseException = self._source.read(size)
            except BaseException as error:  # raised in the caller's thread
                result = error
            with self._changed:
                self._result, self._busy = result, False
                self._changed.notify_all()
