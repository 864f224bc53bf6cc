"""The frame of a video at a given time as a still image, for saving it or for judging a model."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import dropwhile, islice

from upres.engine.color.convert import ToRGB
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Pixels
from upres.engine.core.model import Model
from upres.engine.core.text import number
from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source

from .picture import Picture

LONGEST_FRAME = Fraction(5)  # seconds; reading begins this long before the time, to find the frame that is visible then
EIGHT_BITS = "a still image has 8"
MODEL_FRAMES = 25  # number of frames for models with memory


def shown_at(source: Source, at: Fraction, models: Sequence[Model], *, tonemap: bool) -> Picture:
    """Return the frame visible at second `at`. models: those that will upscale it, which may need the following frames.

    Raises SourceError if the source ends before.
    """
    stateful = any(model.warmup is None for model in models)
    begin = max(Fraction(0), at - LONGEST_FRAME)
    with Reader(source, cut=Cut(begin), tonemap=tonemap, eight_bits=EIGHT_BITS) as reader:
        reader.check_reaches(at)
        frames = _from(reader, at - begin, MODEL_FRAMES if stateful else 1)
    if not frames:
        raise SourceError(f"the source ends before second {number(at)}")
    return Picture(frames[0], following=tuple(frames[1:]))


def frame_size(source: Source, *, tonemap: bool) -> tuple[int, int]:
    """Return the width and height of a source's frames in pixels. Raises SourceError if it cannot be opened."""
    with Reader(source, tonemap=tonemap, eight_bits=EIGHT_BITS) as reader:
        return reader.info.shape.width, reader.info.shape.height


def _from(reader: Reader, at: Fraction, count: int) -> list[Pixels]:
    """Return the frame visible at a second of a cut and the frames after it; an empty list if the cut ends before."""
    to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
    ticks = at / reader.info.shape.time_base
    frames = dropwhile(lambda frame: (frame.pts or 0) + frame.duration <= ticks, reader.frames())
    return [to_rgb(frame) for frame in islice(frames, count)]
