"""The channel for messages and frames between an attempt, which opens untrusted media, and its worker, which holds the models."""

import os
import socket
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf, prod
from typing import Any

import numpy as np

from upres.engine.core.frame import Frame, Pixels
from upres.engine.decode.container import MOST_PIXELS
from upres.service.live import framing
from upres.service.live.framing import FramingError

from . import shared_frames
from .shared_frames import PixelType, SharedFrames, Sizes

MAX_PIXELS_UPSCALED = 16 * MOST_PIXELS
CHANNELS = 3
KINDS: dict[object, PixelType] = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16)}

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """The pixel format of frames. bits: per channel. planar: frames consist of 4:2:0 planes."""

    bits: int = 8
    planar: bool = False

    @classmethod
    def of(cls, frame: Frame) -> "Form":
        """Return the format of a frame."""
        return cls(8 * frame.pixels.itemsize, frame.planar)

    @property
    def kind(self) -> PixelType:
        """The type of a sample; KeyError for an unsupported bit depth."""
        return KINDS[self.bits]

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the shape of a frame's pixel array."""
        return (height * 3 // 2, width) if self.planar else (height, width, CHANNELS)

    def bytes_of(self, width: int, height: int) -> int:
        """Return the size of a frame in bytes."""
        return prod(self.shape(width, height)) * self.kind.itemsize


class Channel:
    """One end of a channel. Any thread may send messages; one thread sends frames, and one, possibly another, receives.

    Frames pass through shared memory if the worker has shared some and they fit, otherwise through the socket. Raises EOFError or
    OSError if the other end is gone.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()
        self._shared: SharedFrames | None = None
        # Whether the other end failed to read a message in time. The error itself is not kept: it would keep its traceback alive.
        self.stuck = False

    def send(self, message: Message, frame: Frame | None = None) -> None:
        """Send a message, optionally with a frame."""
        pixels: bytes | memoryview = b""
        try:
            if frame is not None:
                slot = None if self._shared is None else self._shared.put(frame.pixels)
                place = {"pts": frame.pts, "duration": frame.duration, "shot": frame.shot, "slot": slot}
                size = {"width": frame.width, "height": frame.height}
                message = {**message, "frame": {**place, **size, **asdict(Form.of(frame))}}
                if slot is None:
                    pixels = np.ascontiguousarray(frame.pixels).data.cast("B")
            with self._sending:
                framing.send(self._socket, message, pixels)
        except OSError as error:  # the message may be incomplete, so nothing can follow it; wakes the receiver
            self.stuck = self.stuck or isinstance(error, TimeoutError)
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            raise

    def send_data(self, message: Message, data: bytes) -> None:
        """Send a message with bytes, to be read with `receive_data`."""
        with self._sending:
            framing.send(self._socket, message, data)

    def receive_data(self) -> tuple[Message, bytes]:
        """Receive the next message and its bytes, whose number the trusted worker may choose freely; EOFError at the end."""
        header = framing.receive_header(self._socket)
        return header, framing.receive(self._socket, header.pop("size"))

    def send_end(self, end: socket.socket) -> None:
        """Send the end of another channel, to be read with `receive_end`, and close it here."""
        with end, self._sending:
            framing.send(self._socket, {"channel": True})
            socket.send_fds(self._socket, [b"\0"], [end.fileno()])

    def receive_end(self) -> "Channel":
        """Receive the end of a channel that follows the other side's message; EOFError if none follows."""
        descriptors = socket.recv_fds(self._socket, 1, 1)[1]
        if not descriptors:  # this process has too many open descriptors, or the other end is gone
            raise EOFError("no channel was received")
        return Channel(socket.socket(fileno=descriptors[0]))

    def end(self) -> None:
        """Shut the channel down and wake all threads that send or receive on either end. From any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def share(self, sizes: Sizes) -> None:
        """Share memory for frames of these sizes with the other end, once, if the system supports it, and notify the other end."""
        resources = None if self._shared else shared_frames.create(sizes)
        if resources is None:
            return
        self._shared, descriptor, permits = resources
        try:
            with permits, self._sending:
                framing.send(self._socket, {"shared": sizes})
                socket.send_fds(self._socket, [b"\0"], [descriptor, permits.fileno()])
        finally:
            os.close(descriptor)

    def attach(self, sizes: Sizes) -> None:
        """Attach to the memory that the other end shares; `sizes` is from its message."""
        descriptors = socket.recv_fds(self._socket, 1, 2)[1]
        if len(descriptors) != 2:  # this process has too many open descriptors, or the other end is gone
            for descriptor in descriptors:
                os.close(descriptor)
            raise EOFError("no shared memory was received")
        descriptor, permits = descriptors
        self._shared = SharedFrames.attach(descriptor, socket.socket(fileno=permits), sizes)

    def wait_readable(self, seconds: float) -> bool:
        """Wait until a message, or the end of the stream, can be read; return False after `seconds` without either."""
        return framing.readable(self._socket, seconds)

    def receive(self, most: float = inf) -> tuple[Message, Frame | None]:
        """Receive the next message, with its frame if any; EOFError at the end, FramingError for an invalid message.

        most: maximum number of bytes of pixels.
        """
        header = framing.receive_header(self._socket)
        size = header.pop("size")
        if size > most:
            raise FramingError(f"a frame of {size} bytes; the maximum is {most}")
        if "frame" not in header:
            framing.check_payload({"size": size}, 0)
            return header, None
        return header, self._receive_frame(header.pop("frame"), size)

    def limit(self, seconds: float) -> None:
        """Set the timeout: from now on, raise TimeoutError if the other end sends or accepts nothing for `seconds`."""
        self._socket.settimeout(seconds)
        if self._shared is not None:
            self._shared.limit(seconds)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
        if self._shared is not None:
            self._shared.close()

    def _receive_frame(self, place: dict[str, Any], size: int) -> Frame:
        try:
            width, height, pts, duration = (int(place[name]) for name in ("width", "height", "pts", "duration"))
            shot, form = bool(place["shot"]), Form(place.get("bits", 8), bool(place.get("planar")))
            shape, kind = form.shape(width, height), form.kind
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FramingError(f"a frame without {error}") from error
        if width <= 0 or height <= 0 or width * height > MAX_PIXELS_UPSCALED:
            raise FramingError(f"a frame of {width}x{height}")
        if form.planar and (width % 2 or height % 2 or form.bits > 8):
            raise FramingError(f"a frame of {width}x{height} in planes of {form.bits} bits")
        slot = place.get("slot")
        if size != (prod(shape) * kind.itemsize if slot is None else 0):
            raise FramingError(f"a frame of {width}x{height} with {size} bytes")
        return Frame(self._pixels(slot, shape, kind), pts, duration, shot)

    def _pixels(self, slot: object, shape: tuple[int, ...], kind: PixelType) -> Pixels:
        if slot is not None:
            if self._shared is None:
                raise FramingError("a frame in shared memory, but none is shared")
            return self._shared.take(slot, shape, kind)
        pixels: Pixels = np.empty(shape, kind)
        framing.receive_into(self._socket, pixels.data.cast("B"))
        return pixels
