"""Writer of a video as one animated image: GIF with a palette per frame, WebP, or APNG."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import VideoFormat, VideoFrame, VideoStream
from av.filter import Graph
from PIL import Image

from upres.engine.color.convert import as_frame
from upres.engine.core.errors import TargetError, reason
from upres.engine.core.frame import Frame
from upres.engine.core.text import counted
from upres.engine.segments.whole_file import partial_path, put_in_place

from .picture import resampled


@dataclass(frozen=True, slots=True)
class Moving:
    """An animated image format.

    container, codec, pixel_format: FFmpeg's names. ticks: per second. shortest: minimum frame duration in ticks that players
    support. longest: maximum side length in pixels. loop: container options for endless repetition. options: of the codec.
    exact: codec options for lossless images; None if the format is always lossy. bytes_a_pixel: approximate maximum.
    """

    container: str
    codec: str
    pixel_format: str
    ticks: int
    shortest: int
    longest: int
    loop: Mapping[str, str]
    options: Mapping[str, str]
    exact: Mapping[str, str] | None
    bytes_a_pixel: float


MOVING = {
    ".gif": Moving("gif", "gif", "pal8", 100, 2, 65535, {"loop": "0"}, {}, None, 1),
    ".webp": Moving(
        "webp", "libwebp_anim", "bgra", 1000, 1, 16383, {"loop": "0"}, {"quality": "90"}, {"lossless": "1"}, 1
    ),
    ".apng": Moving("apng", "apng", "rgb24", 1000, 1, 1 << 30, {"plays": "0"}, {}, {}, 3),
}
"""Animated image formats by file suffix."""


class MovingWriter:
    """Writes one animated image, under a temporary name until it is complete. Must be closed. time_base: of the frames."""

    complete = 0

    def __init__(self, target: Path, size: tuple[int, int], time_base: Fraction, *, exact: bool) -> None:
        self._target, self._part = target, partial_path(target)
        self._kind = MOVING[target.suffix.lower()]
        self._size = size
        self._time_base = time_base
        self._last: int | None = None
        self._duration = self._dropped = 0
        self._palettes = _palettes(*size, self._kind.ticks) if self._kind.pixel_format == "pal8" else None
        options = self._kind.exact if exact else self._kind.options
        try:
            self._output = av.open(
                str(self._part), "w", format=self._kind.container, container_options=dict(self._kind.loop)
            )
            stream = self._output.add_stream(self._kind.codec, options=dict(options or {}))
        except (OSError, av.FFmpegError) as error:
            raise _unwritable(target, error) from error
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = self._kind.pixel_format
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, self._kind.ticks)

    def add(self, frame: Frame) -> None:
        """Write the next frame, unless it follows the last one sooner than players can show."""
        at = round(frame.pts * self._time_base * self._kind.ticks)
        if self._last is not None and at < self._last + self._kind.shortest:
            self._dropped += 1
            return
        self._last = at
        pixels = resampled(frame.pixels, self._size, Image.Resampling.LANCZOS)
        picture = as_frame(pixels)
        picture.pts, picture.time_base = at, Fraction(1, self._kind.ticks)
        picture.duration = self._duration = max(
            self._kind.shortest, round(frame.duration * self._time_base * self._kind.ticks)
        )
        self._encode(self._with_palette(picture))

    def finish(self) -> list[str]:
        """Complete the image and move it to its final name; return messages for the user."""
        self._encode(None)
        try:
            self._output.close()
            put_in_place(self._part, self._target)
        except (OSError, av.FFmpegError) as error:
            raise _unwritable(self._target, error) from error
        if not self._dropped:
            return []
        most = self._kind.ticks // self._kind.shortest
        return [f"{counted(self._dropped, 'frame')} left out: {self._target.suffix[1:]} shows {most} a second at most"]

    def stop(self) -> str:
        """Return a message that states what is kept of a run that ends early."""
        return "nothing is kept: an animated image is written as a whole"

    def close(self) -> None:
        """Remove the file if it is incomplete."""
        try:
            self._output.close()
        except (OSError, av.FFmpegError):
            pass  # the error that ended the run has been raised already
        finally:
            self._part.unlink(missing_ok=True)

    def _with_palette(self, picture: VideoFrame) -> VideoFrame:
        if self._palettes is None:
            return picture.reformat(format=self._kind.pixel_format) if self._kind.pixel_format != "rgb24" else picture
        pts, duration = picture.pts, picture.duration
        self._palettes.vpush(picture)
        done = self._palettes.vpull()
        assert isinstance(done, VideoFrame)
        done.pts, done.duration, done.time_base = pts, duration, Fraction(1, self._kind.ticks)
        return done

    def _encode(self, picture: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(picture):
                # Otherwise the last frame of a GIF would have no duration.
                packet.duration = packet.duration or self._duration
                self._output.mux(packet)
        except (OSError, av.FFmpegError) as error:
            raise _unwritable(self._target, error) from error


def _unwritable(target: Path, error: Exception) -> TargetError:
    return TargetError(f"{target}: the image cannot be written ({reason(error)})")


def _palettes(width: int, height: int, ticks: int) -> Graph:
    """Return a filter graph that reduces each frame to its best 256 colors."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=Fraction(1, ticks))
    split, generate, use = (
        graph.add("split"),
        graph.add("palettegen", "stats_mode=single"),
        graph.add("paletteuse", "new=1"),
    )
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
