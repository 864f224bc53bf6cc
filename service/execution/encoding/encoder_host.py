"""The worker's end: an attempt's pictures into an encoder of the GPU, and what that makes of them back.

Each encoder has a channel and a thread of its own, so that models are not kept waiting. `begin` starts one, `encode` comes with
a picture and has no reply, `take` and `finish` are answered with an MP4 of the packets since the last, whose times begin at 0,
or with what has gone wrong since. An attempt may have been taken over: what it sends are numbers that are checked, and pixels.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from rich.filesize import decimal

from upres.engine.color.convert import MATRICES, PRIMARIES, RANGES, TRANSFERS
from upres.engine.color.planes import from_planes
from upres.engine.core.errors import EncoderError
from upres.engine.core.frame import Color, Frame, Shape
from upres.engine.encode.codecs import NVENC
from upres.engine.encode.encoder import Piece, SegmentEncoder
from upres.engine.encode.fragment import mux
from upres.engine.encode.options import Encoder, Encoding, resolve
from upres.service.domain.errors import NoRoomError
from upres.service.execution.channel import Channel, Form, Message
from upres.service.execution.memory_budget import OnWait
from upres.service.execution.shared_frames import Sizes, shared_bytes

from .gpu_sessions import Sessions

MOST_HELD = 512 << 20  # bytes of a segment that is not complete, which no limit of the attempt's own process counts
SETTINGS = ("codec", "crf", "preset", "segment_seconds", "fragment", "live")  # that an attempt may choose
MOST_TICKS = (1 << 31) - 1  # of the parts of a fraction
PLANES = Form(planar=True)
STALL_SECONDS = 60.0  # that an attempt may take for half a message, or to take one
END_SECONDS = 10.0  # for an encoder's thread to end once its channel is closed
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries to open an encoder

logger = logging.getLogger(__name__)


class EncoderHosts:
    """The encoders of one attempt. sessions: of its worker; None where no GPU encodes. name: the attempt's order's.

    on_wait: called of its wait for one.
    """

    def __init__(
        self, sessions: Sessions | None, name: str = "", on_wait: OnWait = lambda *, waits, holding: None
    ) -> None:
        self._sessions = sessions
        self._name = name
        self._on_wait = on_wait
        self._claimed = 0  # that no encoder was opened for
        self._size: tuple[int, int] | None = None
        self._hosts: list[_Host] = []

    @property
    def there(self) -> bool:
        """Whether a GPU encodes, now or once another encoder ends."""
        return self._sessions is not None

    @property
    def free(self) -> bool:
        """Whether one could be claimed now."""
        return self._sessions is not None and self._sessions.free > 0

    def wait(self, gone: Callable[[], bool], longest: float) -> None:
        """Claim one; waits for it as `Sessions.wait`."""
        if self._sessions is None:
            raise ValueError("no GPU encodes here")
        self._sessions.wait(gone, longest, self._name, self._on_wait)
        self._claimed += 1

    def leave(self, count: int) -> None:
        """Give back so many that were claimed and no encoder was opened for."""
        if self._sessions is not None:
            self._sessions.release(count, self._name)
        self._claimed -= count

    def claim(self, most: int) -> int:
        """Claim up to so many more; return how many."""
        count = 0 if self._sessions is None else self._sessions.claim(most, self._name)
        self._claimed += count
        return count

    def fix(self, width: int, height: int) -> None:
        """Fix the size of pictures, once."""
        if self._size is not None or width % 2 or height % 2:
            raise ValueError(f"no encoder of a GPU takes pictures of {width}x{height} now")
        self._size = width, height

    @property
    def bytes_each(self) -> int:
        """Count the bytes that the worker shares for each; 0 where none takes pictures."""
        return 0 if self._size is None else picture_bytes(*self._size)

    def open(self) -> socket.socket:
        """Start an encoder that was claimed; the attempt's end of its channel, for the caller to send and close."""
        if self._sessions is None or self._size is None or not self._claimed:
            raise NoRoomError("every encoder of the GPU is taken; try again later")
        ours, theirs = socket.socketpair()
        self._hosts.append(_Host(Channel(ours), *self._size, partial(self._sessions.release, 1, self._name)))
        self._claimed -= 1
        return theirs

    def close(self) -> None:
        """Close all of them, whatever they do. Each is given back once the driver has it no more, which may be later."""
        for host in self._hosts:
            host.close()
        self._hosts = []
        self.leave(self._claimed)


class _Host:
    """One encoder's channel, and the thread that serves it. ended: called by that when it has ended."""

    def __init__(self, channel: Channel, width: int, height: int, ended: Callable[[], None]) -> None:
        self._channel = channel
        self._ended = ended
        self._size = width, height
        self._encoder: SegmentEncoder | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="nvenc", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; one that the driver holds is left, and said."""
        self._channel.end()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            logger.error("an encoder of the GPU has not ended after %g s", END_SECONDS)

    def _serve(self) -> None:
        try:
            self._channel.share(_sizes(*self._size))
            self._channel.limit(STALL_SECONDS)
            while True:
                while not self._channel.comes(STALL_SECONDS):
                    pass  # a live source may pause; the attempt is watched by others
                self._answer(*self._channel.receive(PLANES.bytes_of(*self._size)))
        except (EOFError, OSError):
            pass  # the attempt is gone, or sends no messages
        except Exception:
            logger.exception("an encoder of the GPU was asked for what there is not")
        finally:
            try:
                self._end()
                self._channel.close()
            finally:
                self._ended()

    def _answer(self, message: Message, frame: Frame | None) -> None:
        match message["do"]:
            case "begin":
                self._failure = None
                self._attempted(lambda: self._begin(message))
            case "encode" if frame is not None:
                self._attempted(lambda: self._encode(frame, key=bool(message["key"])))
            case "take" | "finish" as what:
                self._reply(finish=what == "finish", last=bool(message.get("last")))
            case "end":
                self._end()
            case other:
                raise ValueError(f"there is nothing to do named {other!r}")

    def _attempted(self, work: Callable[[], None]) -> None:
        """Do it unless something has failed before; keep what fails for the next reply."""
        if self._failure is None:
            try:
                work()
            except Exception as error:  # whatever it is, it is the attempt that failed
                self._failure = error

    def _begin(self, message: Message) -> None:
        self._end()
        shape = _shape(message["shape"], *self._size)
        if message["encoder"].keys() != {*SETTINGS}:
            raise ValueError(f"an encoder is asked for by {', '.join(SETTINGS)}")
        encoding = resolve(Encoder(**message["encoder"], nvenc=True), shape)
        if encoding.library not in NVENC.values():
            raise ValueError(f"{encoding.library} runs on no GPU")
        self._encoder = self._opened(encoding, shape)

    def _opened(self, encoding: Encoding, shape: Shape) -> SegmentEncoder:
        """Open an encoder, at the last of some tries: the driver may have none for a moment, which other processes have."""
        for tries, pause in enumerate(PAUSES):
            try:
                return SegmentEncoder(encoding, shape)
            except EncoderError as error:  # FFmpeg's error is the same where the driver never opens such a one
                if not tries:
                    logger.warning("an encoder of the GPU does not open; it is tried for %g s (%s)", sum(PAUSES), error)
            time.sleep(pause)
        return SegmentEncoder(encoding, shape)

    def _encode(self, frame: Frame, *, key: bool) -> None:
        if Form.of(frame) != PLANES or (frame.width, frame.height) != self._size:
            raise ValueError(f"an encoder of {self._size} takes no {frame.width}x{frame.height}")
        assert self._encoder is not None
        self._encoder.encode(from_planes(frame.pixels), frame, key=key)
        if self._encoder.held > MOST_HELD:
            raise ValueError(f"a segment of more than {decimal(MOST_HELD)}")

    def _reply(self, *, finish: bool, last: bool) -> None:
        pieces: list[tuple[dict[str, Any], bytes]] = []

        def take() -> None:
            assert self._encoder is not None
            pieces.append(_packed(self._encoder.finish() if finish else self._encoder.take(last=last)))

        self._attempted(take)
        if self._failure is not None:
            self._channel.send({"error": type(self._failure).__name__, "text": str(self._failure)})
        for facts, data in pieces:
            self._channel.send_data({"end": facts}, data)

    def _end(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None


def picture_bytes(width: int, height: int) -> int:
    """Count the bytes that the worker shares for an encoder of pictures of this size."""
    return shared_bytes(_sizes(width, height))


def _packed(piece: Piece) -> tuple[dict[str, Any], bytes]:
    """Return what a piece says, and an MP4 of its packets."""
    if not piece.packets:
        raise EncoderError(f"{piece.codec} held back what it was to give at once")
    facts = {"codec": piece.codec, "pts": piece.pts, "duration": piece.duration, "last": piece.last, "shot": piece.shot}
    for packet in piece.packets:
        packet.pts, packet.dts = (None if time is None else time - piece.pts for time in (packet.pts, packet.dts))
    return facts, b"".join(mux(piece.packets, piece.template, 1))


def _shape(values: dict[str, Any], width: int, height: int) -> Shape:
    """Check what an attempt says of its pictures; ValueError, KeyError or TypeError where that is none."""
    color = Color(**{name: str(value) for name, value in values["color"].items()})
    known = (MATRICES.values(), RANGES, PRIMARIES.values(), TRANSFERS.values())
    if any(
        name not in names
        for name, names in zip((color.matrix, color.range, color.primaries, color.transfer), known, strict=True)
    ):
        raise ValueError(f"colors that there are none of: {color}")
    time_base, rate, aspect = (Fraction(*values[name]) for name in ("time_base", "rate", "sample_aspect"))
    if any(not 0 < part <= MOST_TICKS for time in (time_base, rate, aspect) for part in time.as_integer_ratio()):
        raise ValueError("fractions that there are none of")
    return Shape(width, height, time_base, rate, aspect, color)


def _sizes(width: int, height: int) -> Sizes:
    """Give the sizes of what is shared: pictures come, and none go back."""
    return PLANES.bytes_of(width, height), 1
