"""Still image in memory: pixels for a network, and the metadata of its file."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upres.engine.color.bit_depth import Deep, shallow
from upres.engine.core.frame import Pixels

from .metadata import Metadata
from .sixteen_bits import resized

LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Picture:
    """A still image.

    rgb: (height, width, 3), upright: uint8, or uint16 with white at FULL. alpha: (height, width), same type, white where opaque;
    None if the whole image is opaque.
    gray: whether it has no color. following: the next frames of its video, for models with memory.
    notes: messages for the user about the reading of the image.
    """

    rgb: Pixels
    alpha: NDArray[np.uint8 | np.uint16] | None = None
    gray: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    following: tuple[Pixels, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])

    @property
    def is_deep(self) -> bool:
        """Report whether it has 16 bits per channel."""
        return self.rgb.dtype == np.uint16

    def shallow(self) -> "Picture":
        """Return it with 8 bits per channel, dithered."""
        if not self.is_deep:
            return self
        alpha = None if self.alpha is None else shallow(self.alpha.astype(np.uint16)[..., None])[..., 0]
        return replace(self, rgb=shallow(self.rgb.astype(np.uint16)), alpha=alpha)

    def deep(self) -> Deep:
        """Return the pixels of a 16-bit image as for a file: (height, width, 1, 3 or 4); gray is computed by ITU-R BT.601."""
        rgb = self.rgb.astype(np.uint16, copy=False)
        if self.alpha is not None:
            return np.dstack([rgb, self.alpha.astype(np.uint16, copy=False)])
        return np.rint(rgb @ LUMA)[..., None].astype(np.uint16) if self.gray else rgb

    def image(self) -> Image.Image:
        """Return an 8-bit image as Pillow's image: L, LA, RGB or RGBA."""
        image = Image.fromarray(np.ascontiguousarray(self.rgb))
        if self.gray:
            image = image.convert("L")
        if self.alpha is not None:
            image.putalpha(Image.fromarray(np.ascontiguousarray(self.alpha)))
        return image


def resampled(pixels: Pixels, size: tuple[int, int], how: Image.Resampling) -> Pixels:
    """Resample (height, width[, 3]), uint8 or uint16, to size (width, height); return the same array if it has this size."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    if pixels.dtype == np.uint16:
        return resized(pixels.astype(np.uint16, copy=False), size, how)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, how))
