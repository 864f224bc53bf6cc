"""One picture of a clip, before and after side by side, to judge a model by before a whole clip is run through it."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from math import prod
from pathlib import Path

import av
import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation

from .chain import enlarge_still
from .colour import ToRGB, view
from .errors import SourceError, TargetError
from .frame import Frame, Pixels
from .model import Model
from .reader import Cut, Reader
from .source import Source

MODEL_FRAMES = 25  # what a model that remembers is given, so that it has something to remember


def write(source: Source, target: Path, models: Sequence[Model], *, at: Fraction, tonemap: bool = False) -> None:
    """Write a PNG: left the frame at second `at` enlarged bicubically, right the models' result.

    Raises SourceError where the source ends before, TargetError where the picture cannot be written.
    """
    if target.suffix.lower() != ".png":
        raise TargetError(f"{target}: a still is a picture, so its name must end in .png")
    with Reader(source, cut=Cut(at), tonemap=tonemap) as reader:
        to_rgb = ToRGB(reader.info.shape.colour, reader.info.orientation)
        stateful = any(model.warmup is None for model in models)
        decoded = islice(reader.frames(), MODEL_FRAMES if stateful else 1)
        frames = [Frame(to_rgb(frame), frame.pts or 0, frame.duration) for frame in decoded]
    if not frames:
        raise SourceError(f"the source ends before second {float(at):g}")
    after = enlarge_still(frames, models)
    before = _bicubic(frames[0].pixels, prod(model.scale for model in models))
    _save(np.concatenate([before, after], axis=1), target)


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
        raise TargetError(f"{target}: the picture cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
