"""Animated WebP, whose frames libavcodec does not decode: unpacked with Pillow into a temporary file that it does."""

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

HEAD = 21  # bytes to the flags of the extended header
ANIMATED = 0x02  # one of them: https://developers.google.com/speed/webp/docs/riff_container
TICK = Fraction(1, 1000)
TOO_SHORT, USUAL = 10, 100  # ticks: browsers show a frame of so few as long as one of so many


def unpacked(name: str, opened: Opened) -> Opened:
    """Replace an animated WebP by a lossless video of the same frames and times; everything else stays as it is.

    name: for people. Closing the video leaves what was opened open.
    Raises SourceError for one that is damaged, TargetError where the temporary folder cannot hold it.
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
    """Tell by its first bytes whether a file is an animated WebP. A file that is open stays where it is."""
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
    """Yield every frame, in RGB or RGBA, and the ticks that it is shown for."""
    try:
        with Image.open(file, formats=["WEBP"]) as image:
            check_size(name, *image.size)
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                image.load()
                ticks = int(image.info.get("duration", 0))
                yield (
                    image.convert("RGBA" if image.has_transparency_data else "RGB"),
                    ticks if ticks > TOO_SHORT else USUAL,
                )
    except UpresError:
        raise
    except Exception as error:  # what damaged files raise is of any kind
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
