"""One frame of a clip, before and after side by side, to judge a model by before a whole clip is run through it."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import dropwhile, islice
from math import prod
from pathlib import Path

import av
import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation

from upres.engine.color.convert import ToRGB, view
from upres.engine.core.errors import SourceError, TargetError, os_errors_as
from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Model
from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source
from upres.engine.models.chain import upscale_still

LONGEST_FRAME = Fraction(5)  # seconds: how long a frame may have been shown already
MODEL_FRAMES = 25  # that a model which remembers gets, so that it has something to remember


def write(
    source: Source,
    target: Path,
    models: Sequence[Model],
    *,
    at: Fraction,
    tonemap: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a PNG of what is shown at second `at`: left upscaled bicubically, right the models' result.

    Raises SourceError where the source ends before, TargetError where it cannot be written.
    """
    if target.suffix.lower() != ".png":
        raise TargetError(f"{target}: a still is an image, so its name must end in .png")
    _check_target(source, target, overwrite)
    stateful = any(model.warmup is None for model in models)
    begin = max(Fraction(0), at - LONGEST_FRAME)
    with Reader(source, cut=Cut(begin), tonemap=tonemap) as reader:
        reader.check_reaches(at)
        frames = _shown_at(reader, at - begin, MODEL_FRAMES if stateful else 1)
    if not frames:
        raise SourceError(f"the source ends before second {float(at):g}")
    after = upscale_still(frames, models)
    before = _bicubic(frames[0].pixels, prod(model.scale for model in models))
    _save(np.concatenate([before, after], axis=1), target)


def height(source: str, *, tonemap: bool = False) -> int:
    """Give the shorter side of a source's frames, in pixels; SourceError where it cannot be opened."""
    with Reader(source, tonemap=tonemap) as reader:
        return min(reader.info.shape.width, reader.info.shape.height)


def _check_target(source: Source, target: Path, overwrite: bool) -> None:
    with os_errors_as(target, TargetError):
        if target.exists() and isinstance(source, str | Path) and Path(source).exists() and target.samefile(source):
            raise TargetError(f"{target}: is the input itself; name another output")
        if target.exists() and not overwrite:
            raise TargetError(f"{target}: exists already; `overwrite` replaces it")
        if not target.parent.is_dir():
            raise TargetError(f"{target}: there is no folder {target.parent}")


def _shown_at(reader: Reader, at: Fraction, count: int) -> list[Frame]:
    """Read the frame that is shown at a second of a cut, and those that follow it; none where the cut ends before."""
    to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
    ticks = at / reader.info.shape.time_base
    frames = dropwhile(lambda frame: (frame.pts or 0) + frame.duration <= ticks, reader.frames())
    return [Frame(to_rgb(frame), frame.pts or 0, frame.duration) for frame in islice(frames, count)]


def _bicubic(pixels: Pixels, scale: int) -> Pixels:
    frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24")
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    return view(frame.reformat(frame.width * scale, frame.height * scale, interpolation=flags))


def _save(pixels: Pixels, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        with av.open(str(part), "w", format="image2pipe") as output:
            stream = output.add_stream("png", rate=1, width=pixels.shape[1], height=pixels.shape[0], pix_fmt="rgb24")
            frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24")
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        part.replace(target)
    except (OSError, av.FFmpegError) as error:
        raise TargetError(f"{target}: the image cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
