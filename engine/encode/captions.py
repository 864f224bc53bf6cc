"""Closed captions in frames (ATSC A/53): kept by time while the models, which see only pixels, upscale the frames.

If the encoder runs in another process, captions are inserted into its packets instead: as ITU-T T.35 user data (ATSC A/53-4, 6.2.3)
in an SEI unit (H.264, 7.3.1, 7.3.2.3 and D.1.6; H.265, 7.3.1 and 7.3.5) before the first slice.
"""

from typing import Any

import numpy as np
from av import Packet, VideoFrame, VideoStream
from av.video.frame import PictureType
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from upres.engine.color.side_data import side_data

CARRIER_SIDE = 2  # side in pixels of the small frame that carries the captions of a large one
HEADS = {"h264": b"\x06", "hevc": b"\x4e\x01"}  # header of an SEI unit
T35 = 4  # SEI payload type: user data registered by ITU-T T.35
ATSC = b"\xb5\x00\x31GA94\x03"  # country, provider, and type of the data
PROCESS = 0x40  # flag next to the count: the triplets are to be displayed
TRIPLET, MOST_TRIPLETS = 3, 31  # bytes of a triplet; maximum number of triplets per frame
END = b"\x80"
LENGTH = 4  # size in bytes of a unit's length field in MP4


class Captions:
    """Captions of the frames between decoder and encoder, which use this object from two threads.

    libavcodec reads captions from a frame's side data. PyAV cannot write side data, but copies it when it resizes a frame, so the
    captions are kept in small resized frames, called carriers.
    """

    def __init__(self) -> None:
        self._carriers: dict[int, VideoFrame] = {}

    def keep(self, frame: VideoFrame) -> None:
        """Keep the captions of a decoded frame, if it has any."""
        if side_data(frame, "A53_CC"):
            self._carriers[frame.pts or 0] = frame.reformat(CARRIER_SIDE, CARRIER_SIDE, "yuv420p", threads=1)

    def pop(self, pts: int) -> VideoFrame | None:
        """Remove and return the carrier of a time; None if there is none. All earlier carriers are discarded."""
        carrier = self._carriers.pop(pts, None)
        # Of frames that are not encoded in this run.
        for passed in [time for time in tuple(self._carriers) if time < pts]:
            self._carriers.pop(passed, None)
        return carrier


def captioned(picture: VideoFrame, carrier: VideoFrame | None) -> VideoFrame:
    """Return a frame to encode with the captions of a carrier; the same frame if there is no carrier."""
    if carrier is None:
        return picture
    restored = carrier.reformat(picture.width, picture.height, picture.format.name, threads=1)
    for plane, other in zip(restored.planes, picture.planes, strict=True):
        width = min(plane.line_size, other.line_size)
        _rows(plane)[:, :width] = _rows(other)[:, :width]
    restored.pict_type = PictureType.NONE  # the encoder would otherwise use the source's frame type
    return restored


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


def with_captions(packet: "Packet[VideoStream]", captions: bytes, codec: str) -> "Packet[VideoStream]":
    """Return a copy of a packet with captions; the caller must set its times again.

    packet: its units are preceded by their lengths, as in MP4. captions: triplets, as in a frame's side data. codec: h264 or hevc.
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
    """Insert emulation prevention bytes: a 3 between two zeros and a byte of at most 3, so that no start code occurs."""
    out = bytearray()
    for byte in data:
        if byte <= 3 and out.endswith(b"\0\0"):
            out.append(3)
        out.append(byte)
    return bytes(out)


def _first_slice(data: bytes, codec: str) -> int:
    """Return the offset of the first slice's unit, or the end of the data if there is none."""
    at = 0
    while at + LENGTH < len(data) and not _is_slice(data[at + LENGTH], codec):
        at += LENGTH + int.from_bytes(data[at : at + LENGTH], "big")
    return min(at, len(data))


def _is_slice(head: int, codec: str) -> bool:
    return 1 <= head & 0x1F <= 5 if codec == "h264" else head >> 1 < 32
