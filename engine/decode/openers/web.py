"""Seekable files on the web, read by HTTP range requests, which continue at the same byte after a broken connection."""

import io
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version
from itertools import count
from queue import Empty, SimpleQueue
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from upres.engine.core.errors import FetchFirstError, Interrupted, SourceError, UnreachableError
from upres.engine.core.text import redacted
from upres.engine.decode.source import Opened, Source, refuse_page

WAIT_SECONDS = 20.0  # timeout for a connection and for its next data
RESPONSE_SECONDS = 2 * WAIT_SECONDS  # timeout for the header of a response
TRIES = 6  # consecutive attempts without data; the pause doubles after each
PAUSE_SECONDS = 0.5  # before the first retry
RETRIABLE = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP status codes of temporary errors
MOST_SKIPPED = 1 << 18  # bytes up to which a seek forward reads on instead of sending another request
PLAYLIST = ".m3u8"
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

Result = TypeVar("Result")


class WebOpener:
    """Opener of files at http and https addresses."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Request the file's first bytes. Raises SourceError if it is missing, a web page, or cannot be read by range requests."""
        address = str(source)
        refuse_page(address)
        if (
            urlsplit(address).path.lower().endswith(PLAYLIST)
        ):  # libavformat silently skips segments that fail to download
            raise SourceError(
                f"{address}: is a playlist, and segments that fail to download would be skipped silently; record it first: "
                f"ffmpeg -i '{address}' -c copy in.mkv"
            )
        file = WebFile(address)
        return Opened(file, again=True, close=file.close, interrupt=file.interrupt, away=True)


def _remedy(error: Exception) -> str:
    """Return what to do about an error that ended the last attempt."""
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not trusted on this machine; SSL_CERT_FILE can name the certificate of its authority"
    if isinstance(reason, ssl.SSLError):
        return "the server may not support https on this port; check the address, or use http://"
    if isinstance(reason, socket.gaierror):
        return "check the name of the host and the network connection"
    return "try again later"


class _BrokenOffError(Exception):
    """Raised when a connection ends before the end of the file."""


class WebFile(io.RawIOBase):
    """A file at a web address. Must be used from one thread only, except `interrupt`.

    Raises SourceError if the file is missing or has changed since it was opened, UnreachableError if all retries fail.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._position = 0
        self._size: int | None = None
        self._version: str | None = None
        self._bounded = False  # whether the server ignores ranges that select the whole file
        self._response: HTTPResponse | None = None
        self._stopped = threading.Event()
        self._responses = SimpleQueue[HTTPResponse | Exception]()  # to the last request
        self._retry(self._connect)

    @property
    def size(self) -> int:
        """The file's length in bytes."""
        assert self._size is not None
        return self._size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position; a new request is sent only by the next read."""
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if position < 0:
            raise OSError(f"there is no byte {position}")
        if not self._skip(position - self._position):
            self._drop()
        self._position = position
        return position

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override]
        """Read some bytes into a buffer; return their number, 0 at the end of the file."""
        if self._position >= self.size:
            return 0
        size = self._retry(lambda: self._receive(buffer))
        self._position += size
        return size

    def interrupt(self) -> None:
        """Interrupt a pending read and all later ones; safe to call from any thread."""
        self._stopped.set()
        self._responses.put(Interrupted())
        response = self._response
        with suppress(OSError, ValueError, AttributeError):  # the connection is closed already
            if response is not None:
                with socket.socket(fileno=os.dup(response.fileno())) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._drop()
        super().close()

    def _retry(self, call: Callable[[], Result]) -> Result:
        """Retry a call while the connection breaks off, up to TRIES times. A first connection that fails is not retried."""
        for attempt in count(1):
            if self._stopped.is_set():
                raise Interrupted
            try:
                return call()
            except (_BrokenOffError, HTTPException, OSError) as error:
                self._drop()
                unreachable = self._size is None and not isinstance(error, _BrokenOffError)
                if (attempt == TRIES or unreachable) and not self._stopped.is_set():
                    raise UnreachableError(
                        f"{redacted(self._address)}: {self._failure(error)}; {_remedy(error)}"
                    ) from error
            except BaseException:
                self._drop()
                raise
            self._stopped.wait(PAUSE_SECONDS * 2 ** (attempt - 1))
        raise AssertionError

    def _failure(self, error: Exception) -> str:
        why = getattr(error, "reason", None) or error
        return (
            f"cannot be reached ({why})"
            if self._size is None
            else f"breaks off at byte {self._position} of {self._size} ({why})"
        )

    def _receive(self, buffer: memoryview | bytearray) -> int:
        response = self._response
        if response is None or response.isclosed():  # closed: read to the end of its range
            response = self._connect()
        if self._stopped.is_set():  # set while there was no connection that could be shut down
            raise Interrupted
        size = response.readinto(buffer)
        if not size:
            raise _BrokenOffError("the connection ended")
        return size

    def _skip(self, forward: int) -> bool:
        """Discard a small number of bytes; return whether the connection has reached the new position."""
        if self._response is None or not 0 <= forward <= MOST_SKIPPED:
            return False
        with suppress(OSError, HTTPException):
            return len(self._response.read(forward)) == forward
        return False

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _connect(self) -> HTTPResponse:
        """Request the file from the current position on.

        The request runs in a thread, because only this way can the wait for the response be interrupted and limited as a whole.
        """
        self._responses = responses = SimpleQueue[HTTPResponse | Exception]()
        abandoned = threading.Event()

        def request() -> None:
            try:
                response = self._request()
            except Exception as error:  # raised by the waiting thread
                responses.put(error)
                return
            responses.put(response)
            if abandoned.is_set():
                response.close()

        threading.Thread(target=request, name="connect", daemon=True).start()
        try:
            response = Interrupted() if self._stopped.is_set() else responses.get(timeout=RESPONSE_SECONDS)
        except Empty:
            response = _BrokenOffError(f"no response within {RESPONSE_SECONDS:g} s")
        if isinstance(response, Exception):
            abandoned.set()
            with suppress(Empty):  # a response that arrived at the same time
                if not isinstance(late := responses.get_nowait(), Exception):
                    late.close()
            raise response
        self._response = response
        if self._ignores_open_range(response):
            self._drop()
            self._bounded = True
            self._connect()  # requests one byte; the response contains the size
            self._drop()
            return self._connect()
        self._check(response)
        return response

    def _request(self) -> HTTPResponse:
        headers = {
            "Range": self._range(),
            "Accept-Encoding": "identity",
            "User-Agent": f"upres/{version('upres')}",
        }
        if self._version:
            headers["If-Range"] = self._version
        try:
            response: HTTPResponse = urlopen(Request(self._address, headers=headers), timeout=WAIT_SECONDS)
        except HTTPError as error:
            error.close()
            if error.code in RETRIABLE:
                raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from error
            raise SourceError(f"{redacted(self._address)}: the server answers {error.code} {error.reason}") from error
        except ValueError as error:
            raise SourceError(f"{redacted(self._address)}: is not a valid address ({redacted(str(error))})") from error
        return response

    def _range(self) -> str:
        if not self._bounded or self._position:
            return f"bytes={self._position}-"
        return f"bytes=0-{max(0, (self._size or 0) - 2)}"

    def _ignores_open_range(self, response: HTTPResponse) -> bool:
        """Report whether a server that accepts ranges sent the whole file for `bytes=0-`, as RFC 9110 permits."""
        accepts_ranges = response.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
        return self._size is None and not self._bounded and response.status == 200 and accepts_ranges

    def _check(self, response: HTTPResponse) -> None:
        """Raise SourceError if a response is not the file that was opened, from the requested position on."""
        if response.headers.get_content_type() == "text/html":
            raise SourceError(
                f"{self._address}: is a page, not a video; yt-dlp may find the video in it: yt-dlp '{self._address}'"
            )
        content_range = RANGE.fullmatch(response.headers.get("Content-Range", "")) if response.status == 206 else None
        if self._size is None and content_range is None:
            raise FetchFirstError(self._address, "its server does not support range requests")
        if content_range is None or self._size not in (None, int(content_range[2])):
            raise SourceError(f"{redacted(self._address)}: has changed while it was read")
        if int(content_range[1]) != self._position:
            raise FetchFirstError(
                self._address, f"its server sends bytes from {content_range[1]} on where {self._position} was requested"
            )
        self._size = int(content_range[2])
        tag = response.headers.get("ETag", "")
        self._version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
