"""Between an attempt, which opens strangers' media, and its worker, which holds the models: messages and frames."""

import socket
import threading
from typing import Any

import numpy as np

from upres.engine.core.frame import Frame
from upres.engine.decode.container import MOST_PIXELS
from upres.service.live import framing
from upres.service.live.framing import FramingError

MOST_PIXELS_UPSCALED = 16 * MOST_PIXELS
CHANNELS = 3

Message = dict[str, Any]


class Channel:
    """One end. Sending is safe from several threads; receiving is for one. Raises EOFError, OSError where the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()

    def send(self, message: Message, frame: Frame | None = None) -> None:
        """Send a message, with a frame if there is one."""
        pixels: bytes | memoryview = b""
        if frame is not None:
            place = {"pts": frame.pts, "duration": frame.duration, "shot": frame.shot}
            message = {**message, "frame": {**place, "width": frame.width, "height": frame.height}}
            pixels = np.ascontiguousarray(frame.pixels).data.cast("B")
        with self._sending:
            try:
                framing.send(self._socket, message, pixels)
            except OSError:  # perhaps in the middle of a message: nothing can follow it
                self._socket.close()
                raise

    def receive(self) -> tuple[Message, Frame | None]:
        """Receive the next message, with its frame; EOFError at the end, FramingError where it is none."""
        header = framing.receive_header(self._socket)
        size = header.pop("size")
        if "frame" not in header:
            framing.check_payload({"size": size}, 0)
            return header, None
        return header, self._receive_frame(header.pop("frame"), size)

    def limit(self, seconds: float) -> None:
        """Raise TimeoutError from now on where the other end sends or takes nothing for so long."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _receive_frame(self, place: dict[str, Any], size: int) -> Frame:
        try:
            width, height, pts, duration = (int(place[name]) for name in ("width", "height", "pts", "duration"))
            shot = bool(place["shot"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FramingError(f"a frame without {error}") from error
        if width <= 0 or height <= 0 or width * height > MOST_PIXELS_UPSCALED:
            raise FramingError(f"a frame of {width}x{height}")
        if size != width * height * CHANNELS:
            raise FramingError(f"a frame of {width}x{height} with {size} bytes")
        pixels = np.empty((height, width, CHANNELS), np.uint8)
        framing.receive_into(self._socket, pixels.data.cast("B"))
        return Frame(pixels, pts, duration, shot)
