"""The worker's side of an encoder channel: passes an attempt's pictures to a GPU encoder and returns the encoded packets.

Each encoder has a separate channel and thread, so that models are not kept waiting. `begin` starts an encoder. `encode` comes
with a picture and has no reply. The reply to `take` and `finish` is an MP4 of the packets since the last reply, with timestamps
from 0, or the first error since then. An attempt may be compromised, so its messages contain only validated numbers and pixels.
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

MAX_WAITING_BYTES = 512 << 20  # bytes of an incomplete segment, which the attempt's own memory limit does not cover
SETTINGS = ("codec", "crf", "preset", "segment_seconds", "fragment", "live")  # settings that an attempt may choose
MAX_TICKS = (1 << 31) - 1  # of a fraction's numerator and denominator
PLANES = Form(planar=True)
STALL_SECONDS = 60.0  # for an attempt to complete a message, or to read one
END_SECONDS = 10.0  # for an encoder's thread to end once its channel is closed
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts to open an encoder

logger = logging.getLogger(__name__)


class EncoderHosts:
    """The encoders of one attempt. sessions: its worker's; None if no GPU encodes. name: the name of the attempt's order.

    on_wait: callback for waits for an encoder.
    """

    def __init__(
        self, sessions: Sessions | None, name: str = "", on_wait: OnWait = lambda *, waits, holding: None
    ) -> None:
        self._sessions = sessions
        self._name = name
        self._on_wait = on_wait
        self._claimed = 0  # sessions for which no encoder was opened yet
        self._size: tuple[int, int] | None = None
        self._hosts: list[_Host] = []

    @property
    def available(self) -> bool:
        """Whether a GPU encoder exists, possibly in use."""
        return self._sessions is not None

    @property
    def free(self) -> bool:
        """Whether an encoder could be claimed now."""
        return self._sessions is not None and self._sessions.free > 0

    def wait(self, attempt_ended: Callable[[], bool], longest: float) -> None:
        """Claim an encoder; waits for it as `Sessions.wait` does."""
        if self._sessions is None:
            raise ValueError("no GPU encodes here")
        self._sessions.wait(attempt_ended, longest, self._name, self._on_wait)
        self._claimed += 1

    def leave(self, count: int) -> None:
        """Release `count` claimed encoders that were not opened."""
        if self._sessions is not None:
            self._sessions.release(count, self._name)
        self._claimed -= count

    def claim(self, most: int) -> int:
        """Claim up to `most` more encoders; return how many."""
        count = 0 if self._sessions is None else self._sessions.claim(most, self._name)
        self._claimed += count
        return count

    def set_size(self, width: int, height: int) -> None:
        """Set the size of pictures, once."""
        if self._size is not None or width % 2 or height % 2:
            raise ValueError(f"the GPU's encoders cannot accept pictures of {width}x{height} now")
        self._size = width, height

    @property
    def bytes_each(self) -> int:
        """The bytes that the worker shares for each encoder; 0 before `set_size`."""
        return 0 if self._size is None else picture_bytes(*self._size)

    def open(self) -> socket.socket:
        """Start a claimed encoder; return the attempt's end of its channel, for the caller to send and close."""
        if self._sessions is None or self._size is None or not self._claimed:
            raise NoRoomError("all encoders of the GPU are in use; try again later")
        own_end, peer_end = socket.socketpair()
        self._hosts.append(_Host(Channel(own_end), *self._size, partial(self._sessions.release, 1, self._name)))
        self._claimed -= 1
        return peer_end

    def close(self) -> None:
        """Close all encoders in any state. Each session is released once the driver has freed it, which may be later."""
        for host in self._hosts:
            host.close()
        self._hosts = []
        self.leave(self._claimed)


class _Host:
    """One encoder's channel and thread. ended: called by the thread when it ends."""

    def __init__(self, channel: Channel, width: int, height: int, ended: Callable[[], None]) -> None:
        self._channel = channel
        self._ended = ended
        self._size = width, height
        self._encoder: SegmentEncoder | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="nvenc", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; if the driver blocks it, log that and continue."""
        self._channel.end()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            logger.error("an encoder of the GPU has not ended after %g s", END_SECONDS)

    def _serve(self) -> None:
        try:
            self._channel.share(_sizes(*self._size))
            self._channel.limit(STALL_SECONDS)
            while True:
                while not self._channel.wait_readable(STALL_SECONDS):
                    pass  # a live source may pause; the worker watches the attempt
                self._answer(*self._channel.receive(PLANES.bytes_of(*self._size)))
        except (EOFError, OSError):
            pass  # the attempt is gone, or sent an invalid message
        except Exception:
            logger.exception("an encoder of the GPU received an invalid request")
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
                self._run_step(lambda: self._begin(message))
            case "encode" if frame is not None:
                self._run_step(lambda: self._encode(frame, key=bool(message["key"])))
            case "take" | "finish" as kind:
                self._reply(finish=kind == "finish", last=bool(message.get("last")))
            case "end":
                self._end()
            case other:
                raise ValueError(f"unknown request {other!r}")

    def _run_step(self, work: Callable[[], None]) -> None:
        """Run `work` unless an earlier step has failed; keep an error for the next reply."""
        if self._failure is None:
            try:
                work()
            except Exception as error:  # any error fails the attempt only
                self._failure = error

    def _begin(self, message: Message) -> None:
        self._end()
        shape = _checked_shape(message["shape"], *self._size)
        if message["encoder"].keys() != {*SETTINGS}:
            raise ValueError(f"an encoder needs exactly the settings {', '.join(SETTINGS)}")
        encoding = resolve(Encoder(**message["encoder"], nvenc=True), shape)
        if encoding.library not in NVENC.values():
            raise ValueError(f"{encoding.library} is not a GPU encoder")
        self._encoder = self._open_with_retries(encoding, shape)

    def _open_with_retries(self, encoding: Encoding, shape: Shape) -> SegmentEncoder:
        """Open an encoder, with retries: other processes may use all of the driver's sessions for a moment."""
        for tries, pause in enumerate(PAUSES):
            try:
                return SegmentEncoder(encoding, shape)
            except EncoderError as error:  # FFmpeg's error is the same if the driver can never open this encoder
                if not tries:
                    logger.warning("cannot open an encoder of the GPU; retrying for %g s (%s)", sum(PAUSES), error)
            time.sleep(pause)
        return SegmentEncoder(encoding, shape)

    def _encode(self, frame: Frame, *, key: bool) -> None:
        if Form.of(frame) != PLANES or (frame.width, frame.height) != self._size:
            raise ValueError(f"an encoder of {self._size} got a frame of {frame.width}x{frame.height}")
        assert self._encoder is not None
        self._encoder.encode(from_planes(frame.pixels), frame, key=key)
        if self._encoder.waiting_bytes > MAX_WAITING_BYTES:
            raise ValueError(f"a segment is larger than {decimal(MAX_WAITING_BYTES)}")

    def _reply(self, *, finish: bool, last: bool) -> None:
        pieces: list[tuple[dict[str, Any], bytes]] = []

        def take() -> None:
            assert self._encoder is not None
            pieces.append(_pack(self._encoder.finish() if finish else self._encoder.take(last=last)))

        self._run_step(take)
        if self._failure is not None:
            self._channel.send({"error": type(self._failure).__name__, "text": str(self._failure)})
        for facts, data in pieces:
            self._channel.send_data({"end": facts}, data)

    def _end(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None


def picture_bytes(width: int, height: int) -> int:
    """Return the number of bytes that the worker shares for an encoder of pictures of this size."""
    return shared_bytes(_sizes(width, height))


def _pack(piece: Piece) -> tuple[dict[str, Any], bytes]:
    """Return a piece's properties, and an MP4 of its packets."""
    if not piece.packets:
        raise EncoderError(f"{piece.codec} returned no packets although its delay must be 0")
    facts = {"codec": piece.codec, "pts": piece.pts, "duration": piece.duration, "last": piece.last, "shot": piece.shot}
    for packet in piece.packets:
        packet.pts, packet.dts = (None if time is None else time - piece.pts for time in (packet.pts, packet.dts))
    return facts, b"".join(mux(piece.packets, piece.template, 1))


def _checked_shape(values: dict[str, Any], width: int, height: int) -> Shape:
    """Validate an attempt's description of its pictures; ValueError, KeyError or TypeError if it is invalid."""
    color = Color(**{name: str(value) for name, value in values["color"].items()})
    known = (MATRICES.values(), RANGES, PRIMARIES.values(), TRANSFERS.values())
    if any(
        name not in names
        for name, names in zip((color.matrix, color.range, color.primaries, color.transfer), known, strict=True)
    ):
        raise ValueError(f"unknown colors: {color}")
    time_base, rate, aspect = (Fraction(*values[name]) for name in ("time_base", "rate", "sample_aspect"))
    if any(not 0 < part <= MAX_TICKS for time in (time_base, rate, aspect) for part in time.as_integer_ratio()):
        raise ValueError("a fraction is out of range")
    return Shape(width, height, time_base, rate, aspect, color)


def _sizes(width: int, height: int) -> Sizes:
    """Return the sizes of the shared memory: pictures are received, and none are returned."""
    return PLANES.bytes_of(width, height), 1
