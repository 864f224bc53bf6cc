"""Properties of files and tracks that PyAV does not expose: cropping, spatial audio, and what an unreadable MP4 lacks.

Cropping is read from a header that one of libavformat's muxers writes for the track. Spatial audio, which libavformat does not
keep, and missing boxes are looked for in the file itself.
EBML elements: RFC 8794, 4 to 6. Matroska tracks: RFC 9559, 5.1.4. Boxes: ISO/IEC 14496-12, 12.1.4 (clap).
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import av
from av import VideoFrame, VideoStream
from av.container import InputContainer
from av.filter import Graph

from upres.engine.core.errors import SourceError

SEGMENT, TRACKS, ENTRY, VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
EDGES = {
    "left": b"\x54\xcc",
    "top": b"\x54\xbb",
    "right": b"\x54\xdd",
    "bottom": b"\x54\xaa",
}  # PixelCrop…, 5.1.4.1.28.8 to 11

MOST_BOXES, LARGEST_INDEX = 1000, 16 << 20
BOXES = (b"ftyp", b"styp", b"wide", b"mdat", b"free", b"skip", b"sidx", b"moof", b"moov", b"uuid", b"emsg", b"prft")
"""Types of the top-level boxes of an MP4 or QuickTime file."""
MOST_LOCAL_BOXES = 10_000
MOST_REMOTE_BOXES = 32  # in a remote file, where each box may take a connection
NO_INDEX = (
    "its index, the box moov, is missing: the recording was cut off before the index was written; untrunc can rebuild it with the "
    "help of another recording from the same device"
)
NO_HEADER = (
    "it holds fragments without the header that they need, the box moov; put the init segment in front: "
    "cat init.mp4 segment.m4s > in.mp4"
)
APERTURE = struct.Struct(">4s8i")  # width, height, and the offset of its center from the picture's, each as a fraction


def header_of(video: VideoStream, container: str = "matroska", flags: str = "") -> bytes:
    """Return the header that a container has for a track like this one; empty if the container does not support its codec."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=container, options={"movflags": flags} if flags else {}) as output:
            output.add_stream_from_template(video)
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return b""
    return file.getvalue()


def has_spatial_audio(container: InputContainer) -> bool:
    """Report whether an MP4 or QuickTime file describes ambisonic sound (box SA3D); False for other sources."""
    path = Path(container.name)
    if "mp4" not in container.format.name or not path.is_file():
        return False
    with path.open("rb") as file:
        index = _index(file)
    at = -1
    while (at := index.find(b"stsd", at + 1)) >= 0:
        size = int.from_bytes(index[max(0, at - 4) : at], "big")
        if b"SA3D" in index[at : at + size]:
            return True
    return False


def _index(file: BinaryIO) -> bytes:
    """Return the beginning of an MP4 file's index, the box moov; empty if there is none."""
    for _ in range(MOST_BOXES):
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        if kind == b"moov":
            return file.read(min(size, LARGEST_INDEX))
        if size < 8 or len(head) < 16:
            break
        file.seek(size - 16, io.SEEK_CUR)
    return b""


class Positioned(Protocol):
    """An open file in which positions can be set."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102

    def seek(self, offset: int, whence: int = 0, /) -> int: ...  # noqa: D102


def missing_part(file: str | Positioned) -> str:
    """Return a description of the essential part that an MP4 or QuickTime file lacks; empty if none is missing."""
    try:
        if not isinstance(file, str):
            return _missing_box(file, MOST_REMOTE_BOXES)
        if not Path(file).is_file():  # it is an address
            return ""
        with Path(file).open("rb") as opened:
            return _missing_box(opened, MOST_LOCAL_BOXES)
    except (OSError, ValueError, SourceError):  # no more precise reason can be found
        return ""


def _missing_box(file: Positioned, most: int) -> str:
    """Do the work of `missing_part` for an open file. most: maximum number of boxes to read."""
    kinds = set()
    end, at = file.seek(0, io.SEEK_END), 0
    for _ in range(most):
        if at >= end:
            break
        file.seek(at)
        box = file.read(16)
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        size = int.from_bytes(box[8:16], "big") if size == 1 else size
        if len(box) < 8 or kind not in BOXES:
            break
        kinds.add(kind)
        if size < 8 or kind in (b"moof", b"moov"):
            break
        at += size
    else:
        return ""
    if not kinds or b"moov" in kinds:
        return ""
    return NO_HEADER if b"moof" in kinds else NO_INDEX


@dataclass(frozen=True, slots=True)
class Crop:
    """Pixels to crop at each edge: Matroska's PixelCrop, or the clean aperture (clap) of MP4 and QuickTime."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return self != Crop()


def crop_of(video: VideoStream) -> Crop:
    """Return the cropping that a track's container specifies."""
    body = header_of(video)
    if not body:  # codecs that only QuickTime supports, and Matroska does not
        return _outside_aperture(header_of(video, "mov", "empty_moov"), video)
    for kind in (SEGMENT, TRACKS, ENTRY, VIDEO):
        body = dict(_elements(body)).get(kind, b"")
    elements = dict(_elements(body))
    return Crop(**{edge: int.from_bytes(elements.get(kind, b""), "big") for edge, kind in EDGES.items()})


def _outside_aperture(header: bytes, video: VideoStream) -> Crop:
    """Return the area outside the clean aperture in a QuickTime header."""
    at = header.find(b"clap")
    if at < 0:
        return Crop()
    values = APERTURE.unpack_from(header, at)[1:]
    width, height, right, down = (above // (below or 1) for above, below in zip(values[::2], values[1::2], strict=True))
    left, top = (video.width - width) // 2 + right, (video.height - height) // 2 + down
    return Crop(left, top, video.width - width - left, video.height - height - top)


class Cropper:
    """Crops frames with libavfilter, which rounds to whole chroma pixels if chroma is subsampled."""

    def __init__(self, crop: Crop) -> None:
        self._crop = crop
        self._graph: Graph | None = None
        self._input: tuple[int, int, str] | None = None  # size and pixel format that the graph was built for

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return a cropped frame; the same frame if there is nothing to crop, or if nothing would remain."""
        left, top = self._crop.left, self._crop.top
        width, height = frame.width - left - self._crop.right, frame.height - top - self._crop.bottom
        if not self._crop or width <= 0 or height <= 0:
            return frame
        current = frame.width, frame.height, frame.format.name
        if self._graph is None or current != self._input:
            self._graph, self._input = _graph(frame, f"{width}:{height}:{left}:{top}"), current
        self._graph.vpush(frame)
        return self._graph.vpull()


def _graph(frame: VideoFrame, crop: str) -> Graph:
    graph = Graph()
    size = {"width": str(frame.width), "height": str(frame.height)}
    source = graph.add("buffer", **size, pix_fmt=frame.format.name, time_base=str(frame.time_base or 1))
    graph.link_nodes(source, graph.add("crop", crop), graph.add("buffersink")).configure()
    return graph


def _elements(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield ID and body of the elements in a body. The last one may be truncated or of unknown length."""
    at = 0
    while at < len(data) and data[at]:
        name = at + _width(data[at])
        if name >= len(data) or not data[name]:
            return
        body = name + _width(data[name])
        size = int.from_bytes(data[name:body], "big") & ((1 << 7 * (body - name)) - 1)
        yield data[at:name], data[body : body + size]
        at = body + size


def _width(first: int) -> int:
    """Return the size in bytes of an element's ID or length field, which the leading zeros of its first byte encode."""
    return 9 - first.bit_length()
