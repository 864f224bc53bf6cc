"""Closed captions in the picture (ATSC A/53): kept by time while a model, which sees pixels only, upscales the frames.

An encoder in another process does not see them: they are written into its packets, as user data of ITU-T T.35 (ATSC A/53-4, 6.2.3)
in a unit of supplemental information (SEI; H.264, 7.3.1, 7.3.2.3 and D.1.6, and H.265, 7.3.1 and 7.3.5), before the first slice.
"""

from typing import Any

import numpy as np
from av import Packet, VideoFrame, VideoStream
from av.video.frame import PictureType
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from upres.engine.color.side_data import side_data

CARRIER_SIDE = 2  # pixels of the small frame that keeps what lies beside a large one
HEADS = {"h264": b"\x06", "hevc": b"\x4e\x01"}  # of a unit of SEI
T35 = 4  # its payload: user data that ITU-T T.35 registered
ATSC = b"\xb5\x00\x31GA94\x03"  # the country, the provider, and what follows
PROCESS = 0x40  # beside the count: the triplets are to be shown
TRIPLET, MOST_TRIPLETS = 3, 31
END = b"\x80"
LENGTH = 4  # bytes of a unit's length in an MP4


class Captions:
    """Filled by the thread that decodes, emptied by the one that encodes; holds no more than the frames between them.

    libavcodec takes captions from a frame's side data, which PyAV cannot write, but copies with a frame that it resizes.
    """

    def __init__(self) -> None:
        self._carriers: dict[int, VideoFrame] = {}

    def keep(self, frame: VideoFrame) -> None:
        """Keep what captions a decoded frame has."""
        if side_data(frame, "A53_CC"):
            self._carriers[frame.pts or 0] = frame.reformat(CARRIER_SIDE, CARRIER_SIDE, "yuv420p", threads=1)

    def take(self, pts: int) -> VideoFrame | None:
        """Return what carries the captions of a time, and forget all before it; None where there are none."""
        carrier = self._carriers.pop(pts, None)
        for passed in [time for time in tuple(self._carriers) if time < pts]:  # of frames that are not encoded again
            self._carriers.pop(passed, None)
        return carrier


def captioned(picture: VideoFrame, carrier: VideoFrame | None) -> VideoFrame:
    """Return a frame that is about to be encoded with the captions that were kept; itself where there are none."""
    if carrier is None:
        return picture
    restored = carrier.reformat(picture.width, picture.height, picture.format.name, threads=1)
    for plane, other in zip(restored.planes, picture.planes, strict=True):
        width = min(plane.line_size, other.line_size)
        _rows(plane)[:, :width] = _rows(other)[:, :width]
    restored.pict_type = PictureType.NONE  # the source's own would be obeyed
    return restored


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


def with_captions(packet: "Packet[VideoStream]", captions: bytes, codec: str) -> "Packet[VideoStream]":
    """Return a packet, whose units stand behind their lengths, with captions; its times are to be set again.

    captions: triplets, as they lie beside a frame. codec: h264 or hevc.
    """
    data, unit = bytes(packet), _unit(captions, codec)
    at = _first_slice(data, codec)
    changed: Packet[Any] = Packet(data[:at] + len(unit).to_bytes(LENGTH, "big") + unit + data[at:])
    changed.is_keyframe, changed.duration, changed.time_base = packet.is_keyframe, packet.duration, packet.time_base
    return changed


def _unit(captions: bytes, codec: str) -> bytes:
    count = min(MOST_TRIPLETS, len(captions) // TRIPLET)
    payload = ATSC + bytes((PROCESS | count, 0xFF)) + captions[: count * TRIPLET] + b"\xff"
    return HEADS[codec] + _escaped(bytes((T35, len(payload))) + payload + END)


def _escaped(data: bytes) -> bytes:
    """Put a 3 between two zeros and a byte of at most 3, so that nothing looks like the start of a unit."""
    out = bytearray()
    for byte in data:
        if byte <= 3 and out.endswith(b"\0\0"):
            out.append(3)
        out.append(byte)
    return bytes(out)


def _first_slice(data: bytes, codec: str) -> int:
    """Return where the unit of the first slice begins, or the end."""
    at = 0
    while at + LENGTH < len(data) and not _is_slice(data[at + LENGTH], codec):
        at += LENGTH + int.from_bytes(data[at : at + LENGTH], "big")
    return min(at, len(data))


def _is_slice(head: int, codec: str) -> bool:
    return 1 <= head & 0x1F <= 5 if codec == "h264" else head >> 1 < 32
