"""Files on the web, read by range requests: from any place, and asked for again from where a connection broke off."""

import io
import os
import re
import socket
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

WAIT_SECONDS = 20.0  # for a connection, and for its next bytes
ANSWER_SECONDS = 2 * WAIT_SECONDS  # for the head of an answer
TRIES = 6  # in a row that bring no byte, each after twice the pause of the one before
PAUSE_SECONDS = 0.5
LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers that may be another one soon
SKIPPED = 1 << 18  # bytes that are read over, rather than asked for by another request
PLAYLIST = ".m3u8"
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

Result = TypeVar("Result")


class WebOpener:
    """Opens a file at http or https."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Ask for the file's first bytes; SourceError where there is none, it is a page, or only comes in order."""
        address = str(source)
        refuse_page(address)
        if (
            urlsplit(address).path.lower().endswith(PLAYLIST)
        ):  # libavformat leaves out pieces that do not come, and says nothing
            raise SourceError(
                f"{address}: is a playlist, whose pieces might be missed without a word; record it first: "
                f"ffmpeg -i '{address}' -c copy in.mkv"
            )
        file = WebFile(address)
        return Opened(file, again=True, close=file.close, interrupt=file.interrupt, away=True)


class _BrokenOffError(Exception):
    """Raised where a connection gives no more bytes, though there are more."""


class WebFile(io.RawIOBase):
    """A file at an address. Read by one thread.

    Raises SourceError where the file is not there or has changed since it was opened, UnreachableError where it gives nothing
    however often it is asked.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._position = 0
        self._size: int | None = None
        self._version: str | None = None
        self._response: HTTPResponse | None = None
        self._stopped = threading.Event()
        self._answers = SimpleQueue[HTTPResponse | Exception]()  # to the last question
        self._insist(self._connect)

    @property
    def size(self) -> int:
        """Give the file's length in bytes."""
        assert self._size is not None
        return self._size

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read in any order."""
        return True

    def tell(self) -> int:
        """Give the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place; nothing is asked for before the next read."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if place < 0:
            raise OSError(f"there is no byte {place}")
        if not self._skipped(place - self._position):
            self._drop()
        self._position = place
        return place

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override]
        """Read some bytes; 0 at the file's end."""
        if self._position >= self.size:
            return 0
        got = self._insist(lambda: self._received(buffer))
        self._position += got
        return got

    def interrupt(self) -> None:
        """End a read that waits, and every later one; from any thread."""
        self._stopped.set()
        self._answers.put(Interrupted())
        response = self._response
        with suppress(OSError, ValueError, AttributeError):  # it has ended by itself
            if response is not None:
                with socket.socket(fileno=os.dup(response.fileno())) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; safe to call twice."""
        self._drop()
        super().close()

    def _insist(self, call: Callable[[], Result]) -> Result:
        """Call until it does not break off, a bounded number of times; once where nobody was there in the first place."""
        for tried in count(1):
            if self._stopped.is_set():
                raise Interrupted
            try:
                return call()
            except (_BrokenOffError, HTTPException, OSError) as error:
                self._drop()
                hopeless = self._size is None and not isinstance(error, _BrokenOffError)
                if (tried == TRIES or hopeless) and not self._stopped.is_set():
                    raise UnreachableError(
                        f"{redacted(self._address)}: {self._missing(error)}; try again later"
                    ) from error
            except BaseException:
                self._drop()
                raise
            self._stopped.wait(PAUSE_SECONDS * 2 ** (tried - 1))
        raise AssertionError

    def _missing(self, error: Exception) -> str:
        why = getattr(error, "reason", None) or error
        return (
            f"cannot be reached ({why})"
            if self._size is None
            else f"breaks off at byte {self._position} of {self._size} ({why})"
        )

    def _received(self, buffer: memoryview | bytearray) -> int:
        response = self._response or self._connect()
        if self._stopped.is_set():  # while there was no connection to end
            raise Interrupted
        got = response.readinto(buffer)
        if not got:
            raise _BrokenOffError("the connection ended")
        return got

    def _skipped(self, forward: int) -> bool:
        """Read over what lies before a place a little ahead; whether the connection is there now."""
        if self._response is None or not 0 <= forward <= SKIPPED:
            return False
        with suppress(OSError, HTTPException):
            return len(self._response.read(forward)) == forward
        return False

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _connect(self) -> HTTPResponse:
        """Ask for everything from the place on. In a thread: nothing else ends the wait for an answer, or bounds all of it."""
        self._answers = answers = SimpleQueue[HTTPResponse | Exception]()
        given_up = threading.Event()

        def ask() -> None:
            try:
                response = self._asked()
            except Exception as error:  # raised by the thread that waits
                answers.put(error)
                return
            answers.put(response)
            if given_up.is_set():
                response.close()

        threading.Thread(target=ask, name="connect", daemon=True).start()
        try:
            answer = Interrupted() if self._stopped.is_set() else answers.get(timeout=ANSWER_SECONDS)
        except Empty:
            answer = _BrokenOffError(f"no answer within {ANSWER_SECONDS:g} s")
        if isinstance(answer, Exception):
            given_up.set()
            with suppress(Empty):  # it came at the same time
                if not isinstance(late := answers.get_nowait(), Exception):
                    late.close()
            raise answer
        self._response = answer
        self._check(answer)
        return answer

    def _asked(self) -> HTTPResponse:
        headers = {
            "Range": f"bytes={self._position}-",
            "Accept-Encoding": "identity",
            "User-Agent": f"upres/{version('upres')}",
        }
        if self._version:
            headers["If-Range"] = self._version
        try:
            response: HTTPResponse = urlopen(Request(self._address, headers=headers), timeout=WAIT_SECONDS)
        except HTTPError as error:
            error.close()
            if error.code in LATER:
                raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from error
            raise SourceError(f"{redacted(self._address)}: the server answers {error.code} {error.reason}") from error
        except ValueError as error:  # an address that is none
            raise SourceError(f"{redacted(self._address)}: is no address ({redacted(str(error))})") from error
        return response

    def _check(self, response: HTTPResponse) -> None:
        """Raise SourceError where what comes is not the file that was opened, from the place that was asked for."""
        if response.headers.get_content_type() == "text/html":
            raise SourceError(
                f"{self._address}: is a page, not a video; yt-dlp may find the video in it: yt-dlp '{self._address}'"
            )
        given = RANGE.fullmatch(response.headers.get("Content-Range", "")) if response.status == 206 else None
        if self._size is None and given is None:
            raise FetchFirstError(self._address, "its server gives it in order only")
        if given is None or self._size not in (None, int(given[2])):
            raise SourceError(f"{redacted(self._address)}: has changed while it was read")
        if int(given[1]) != self._position:
            raise FetchFirstError(
                self._address, f"its server gives bytes from {given[1]} where {self._position} was asked for"
            )
        self._size = int(given[2])
        tag = response.headers.get("ETag", "")
        self._version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
