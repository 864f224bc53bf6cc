"""What a source holds, as its container and its first frame say."""

from dataclasses import dataclass

from upres.engine.color.orientation import Orientation
from upres.engine.core.frame import Shape


@dataclass(frozen=True, slots=True)
class Info:
    """What a source holds. seconds and frames are the container's word, None where it gives none."""

    shape: Shape
    container: str
    codec: str
    pixel_format: str
    bits: int
    orientation: Orientation
    interlaced: bool
    seconds: float | None
    frames: int | None
    audio: tuple[str, ...]
    subtitles: tuple[str, ...]
