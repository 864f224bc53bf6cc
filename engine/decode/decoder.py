"""Decoding of a video track to frames in presentation order, all of one size, each with its presentation time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import av
from av import CodecContext, VideoCodecContext, VideoFrame, VideoStream
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from upres.engine.core.timeline import Repairs

from .container import MediaPacket
from .header import Cropper, crop_of
from .inventory import has_alpha_layer

OnPacket = Callable[[MediaPacket], None]

FROM_NVDEC = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p016le": "yuv420p12le"}
"""Pixel formats of NVDEC's frames, and those of the CPU's decoders with the same samples. Only 12 bits arrive as p016le."""
NEVER_FROM_NVDEC = ("gray", "yuv420p", "yuv422p", "yuva", "yuvj")
"""Beginnings of pixel formats that only the CPU's decoders have."""


class Decoder:
    """Decoder of one video track, which also applies the container's cropping.

    accounted: number of frames decoded or hidden by an edit list. chunks: number of packets as AVI counts them.
    like: a frame whose size and pixel format all others are converted to; by default the first.
    on_cpu: whether the CPU has decoded the newest frame.
    """

    def __init__(self, video: VideoStream, container: str, repairs: Repairs, like: VideoFrame | None = None) -> None:
        self._video = video
        self._context = _alpha_decoder(video) or video.codec_context
        self._repairs = repairs
        self._avi = container == "avi"
        self._times: deque[int] = deque()
        self._newest: int | None = None  # pts of the last packet
        self._reordered = False  # pts fall at some point, as they should with reordered frames
        self._equal = True  # every pts equals its dts
        self._lost = False  # the muxer has lost the presentation times
        self._before: int | None = None  # pts of the last frame
        self._step = 0
        self._first = like
        self._cropped = Cropper(crop_of(video))
        self._reformatter = VideoReformatter()
        self.accounted = self.chunks = 0
        self.on_cpu = True
        self._sizes: list[str] = []

    def frames(self, packets: Iterable[MediaPacket], on_other: OnPacket) -> Iterator[VideoFrame]:
        """Yield decoded frames; packets that cannot be decoded are counted and skipped. Other tracks' packets go to `on_other`.

        Frames whose size or pixel format differs from the first frame's are converted to it; `notes` then lists the sizes.
        """
        for packet in packets:
            if packet.stream.index != self._video.index:
                on_other(packet)
            elif packet.size or packet.pts is None:  # Theora repeats a frame by an empty packet with a pts
                yield from self._decode(packet)

    @property
    def notes(self) -> list[str]:
        """Messages for the user about frames that were converted."""
        if not self._sizes or self._first is None:
            return []
        first = f"{self._first.width}x{self._first.height}"
        return [f"frames change from {first} to {', '.join(self._sizes)}; they are scaled to the first size"]

    def _decode(self, packet: MediaPacket) -> Iterator[VideoFrame]:
        self._repairs.damaged += packet.is_corrupt
        self.chunks = self.chunks if packet.dts is None else packet.dts + 1
        self.accounted += packet.is_discard
        self._note_time(packet)
        try:
            for frame in self._context.decode(packet):
                assert isinstance(frame, VideoFrame)
                self._repairs.concealed += frame.is_corrupt
                self.accounted += 1
                yield self._alike(self._cropped(self._stamped(self._as_from_cpu(frame))))
        except av.FFmpegError:
            self._repairs.damaged += 1
            if self._times and self._times[-1] == packet.pts:
                self._times.pop()  # this packet yields no frame

    def _as_from_cpu(self, frame: VideoFrame) -> VideoFrame:
        """Convert a frame of NVDEC to the pixel format that a CPU's decoder has for it, which changes no sample."""
        name, accelerated = frame.format.name, self._context.is_hwaccel
        self.on_cpu = not accelerated or name.startswith(NEVER_FROM_NVDEC)
        if not accelerated or name not in FROM_NVDEC:
            return frame
        return self._reformatter.reformat(frame, format=FROM_NVDEC[name], threads=1)

    def _note_time(self, packet: MediaPacket) -> None:
        self._equal = self._equal and packet.pts == packet.dts
        self._step = packet.duration or self._step
        if packet.pts is not None:
            self._reordered = self._reordered or (self._newest is not None and packet.pts < self._newest)
            self._newest = packet.pts
        if self._reordered:
            self._times.clear()
        elif packet.pts is not None and not packet.is_discard:
            self._times.append(packet.pts)

    def _stamped(self, frame: VideoFrame) -> VideoFrame:
        """Set a frame's pts if the container has lost it. Frames leave the decoder in presentation order.

        AVI stores decoding times only, and libavformat guesses the pts of reordered frames. In other containers the muxer has lost
        the pts if the codec reorders frames, but every pts equals its dts. The same holds if pts only rise from packet to packet,
        although a B-frame was decoded, which is stored after a frame that is shown later.
        """
        time = self._times.popleft() if self._times else None
        if self._avi:
            if frame.dts is not None:
                frame.pts = frame.dts
            elif self._before is not None:
                frame.pts = self._before + self._step
        elif not self._reordered and self._context.has_b_frames:
            self._lost = self._lost or self._equal or frame.pict_type == PictureType.B
            if self._lost and time is not None:
                frame.pts = time
        self._before = frame.pts
        return frame

    def _alike(self, frame: VideoFrame) -> VideoFrame:
        first = self._first = self._first or frame
        expected, actual = _format(first), _format(frame)
        if expected == actual:
            return frame
        if actual[:2] != expected[:2] and (size := f"{frame.width}x{frame.height}") not in self._sizes:
            self._sizes.append(size)
        return self._reformatter.reformat(
            frame, first.width, first.height, first.format.name, interpolation=Interpolation.BICUBIC, threads=1
        )


def _format(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def first_keyframe(
    frames: Iterator[VideoFrame], video: VideoStream, second: Fraction, repairs: Repairs
) -> VideoFrame | None:
    """Return the first keyframe; frames before it lack their references. None if it is after `second` of the source's clock."""
    for frame in frames:
        pts = frame.pts if frame.dts is None or frame.pts is None else max(frame.pts, frame.dts)
        if pts is None or pts * (video.time_base or Fraction(1)) > second:
            return None
        if frame.key_frame:
            repairs.concealed = int(frame.is_corrupt)  # frames before it do not count
            return frame
    return None


def _alpha_decoder(video: VideoStream) -> VideoCodecContext | None:
    """Return a decoder that also reads VP9's separate alpha layer; None if there is no such layer or no such decoder."""
    if video.codec_context.name != "vp9" or not has_alpha_layer(video) or "libvpx-vp9" not in av.codecs_available:
        return None
    context = CodecContext.create("libvpx-vp9", "r")
    assert isinstance(context, VideoCodecContext)
    context.flags |= Flags.output_corrupt
    return context
