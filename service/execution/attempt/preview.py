"""The preview of a result: its first frame as JPEG."""

import io
from fractions import Fraction

import av
from av import VideoFrame
from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from upres.engine.color.convert import HDR, ToRGB, as_frame, resolve

QUALITY = 5  # libavcodec's scale for MJPEG: 2 is best, 31 worst


def jpeg(fragment: bytes) -> bytes:
    """Encode the first frame of a playable fMP4 at its own size; HDR is tone-mapped to SDR."""
    with av.open(io.BytesIO(fragment), mode="r", format="mp4") as container:
        container.streams.video[0].codec_context.thread_count = 1  # more threads do not speed up a single frame
        frame = next(container.decode(video=0))
    color = resolve(frame)
    shown = as_frame(ToRGB(color)(frame)) if color.transfer in HDR else frame
    return _encoded(shown.reformat(format="yuvj420p", dst_color_range=ColorRange.JPEG))


def _encoded(frame: VideoFrame) -> bytes:
    encoder = CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.options = {"qmin": str(QUALITY), "qmax": str(QUALITY)}
    encoder.time_base = frame.time_base or Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
