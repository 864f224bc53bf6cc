"""A still image as a network takes it, and all that its file says of it besides."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upres.engine.core.frame import Pixels

from .metadata import Metadata


@dataclass(frozen=True, slots=True)
class Picture:
    """A still image.

    rgb: (height, width, 3) uint8, upright. alpha: (height, width) uint8, 255 where opaque; None where all of it is.
    gray: whether it holds no color. following: the frames of its video that come after it, for models that remember.
    notes: what a user should know of how it was read.
    """

    rgb: Pixels
    alpha: NDArray[np.uint8] | None = None
    gray: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    following: tuple[Pixels, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.rgb.shape[0])

    def image(self) -> Image.Image:
        """Make Pillow's image of it: L, LA, RGB or RGBA."""
        image = Image.fromarray(np.ascontiguousarray(self.rgb))
        if self.gray:
            image = image.convert("L")
        if self.alpha is not None:
            image.putalpha(Image.fromarray(np.ascontiguousarray(self.alpha)))
        return image


def resampled(pixels: Pixels, size: tuple[int, int], how: Image.Resampling) -> NDArray[np.uint8]:
    """Resample (height, width[, 3]) uint8 to a width and a height; the same pixels where they have them."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return np.asarray(pixels, np.uint8)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, how))
