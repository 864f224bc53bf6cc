"""Animated WebP, which libavcodec cannot decode: converted with Pillow into a temporary lossless video."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
import numpy as np
from av import VideoFrame, VideoStream
from PIL import Image

from upres.engine.core.errors import SourceError, TargetError, UpresError, reason
from upres.engine.decode.container import check_size
from upres.engine.decode.source import Opened

HEAD = 21  # bytes up to and including the flags of the extended header
ANIMATED = 0x02  # a flag: https://developers.google.com/speed/webp/docs/riff_container
TICK = Fraction(1, 1000)
TOO_SHORT, DEFAULT_TICKS = 10, 100  # browsers show frames of at most TOO_SHORT ticks for DEFAULT_TICKS


def unpacked(name: str, opened: Opened) -> Opened:
    """Replace an animated WebP by a lossless video with the same frames and times; return any other source unchanged.

    name: for messages. Closing the video does not close the original source.
    Raises SourceError if the image is damaged, TargetError if the video cannot be written to the temporary folder.
    """
    if not opened.again or not _is_animated(opened.file):
        return opened
    video = tempfile.TemporaryFile(prefix="upres-")  # noqa: SIM115 - closed by the reader
    try:
        _write(_frames(name, cast("str | IO[bytes]", opened.file)), video)
    except BaseException:
        video.close()
        raise
    video.seek(0)
    return replace(opened, file=video, close=video.close, options={}, format="webp")


def _is_animated(file: object) -> bool:
    """Report whether a file is an animated WebP, by its first bytes. The position of an open file does not change."""
    with suppress(OSError):
        if isinstance(file, str):
            with Path(file).open("rb") as path:
                head = path.read(HEAD)
        else:
            opened = cast("IO[bytes]", file)
            place = opened.tell()
            head = opened.read(HEAD)
            opened.seek(place)
        return len(head) == HEAD and head[:4] + head[8:16] == b"RIFFWEBPVP8X" and bool(head[-1] & ANIMATED)
    return False


def _frames(name: str, file: str | IO[bytes]) -> Iterator[tuple[Image.Image, int]]:
    """Yield every frame, in RGB or RGBA, with its duration in ticks."""
    try:
        with Image.open(file, formats=["WEBP"]) as image:
            check_size(name, *image.size)
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                image.load()
                ticks = int(image.info.get("duration", 0))
                yield (
                    image.convert("RGBA" if image.has_transparency_data else "RGB"),
                    ticks if ticks > TOO_SHORT else DEFAULT_TICKS,
                )
    except UpresError:
        raise
    except Exception as error:  # damaged files can raise any exception
        raise SourceError(f"{name}: this WebP cannot be read ({reason(error)})") from error


def _write(frames: Iterator[tuple[Image.Image, int]], file: IO[bytes]) -> None:
    """Write frames as FFV1 in Matroska."""
    at = 0
    try:
        with av.open(file, "w", format="matroska") as output:
            stream: VideoStream | None = None
            for image, ticks in frames:
                stream = stream or _stream(output, image, Fraction(1) / (ticks * TICK))
                frame = VideoFrame.from_ndarray(np.asarray(image), "rgba" if image.mode == "RGBA" else "rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base, frame.duration, at = at, TICK, ticks, at + ticks
                _mux(output, stream, frame, ticks)
            if stream is not None:
                _mux(output, stream, None, 0)
    except (OSError, av.FFmpegError) as error:
        raise TargetError(f"{tempfile.gettempdir()}: cannot be written ({reason(error)})") from error


def _stream(output: av.container.OutputContainer, image: Image.Image, rate: Fraction) -> VideoStream:
    stream = output.add_stream("ffv1", rate=rate)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = image.size
    stream.pix_fmt = "bgra" if image.mode == "RGBA" else "bgr0"
    stream.time_base = stream.codec_context.time_base = TICK
    return stream


def _mux(output: av.container.OutputContainer, stream: VideoStream, frame: VideoFrame | None, ticks: int) -> None:
    for packet in stream.encode(frame):
        packet.duration = packet.duration or ticks
        output.mux(packet)
