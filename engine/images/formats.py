"""Image formats: their file suffixes, capabilities, and options for saving."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upres.engine.core.errors import TargetError


@dataclass(frozen=True, slots=True)
class Format:
    """An image format. name: Pillow's name.

    modes: Pillow's modes that it supports, the one with color and transparency last. longest: maximum side length in pixels.
    options: for saving. exact: options for lossless saving; None if the format is always lossy.
    bytes_a_pixel: approximate maximum. is_deep: whether it supports 16 bits per channel.
    """

    name: str
    modes: tuple[str, ...]
    longest: int = 1 << 30
    options: Mapping[str, object] = field(default_factory=dict)
    exact: Mapping[str, object] | None = field(default_factory=dict)
    bytes_a_pixel: float = 3
    is_deep: bool = False

    @property
    def has_alpha(self) -> bool:
        """Report whether it supports transparency."""
        return self.modes[-1] == "RGBA"


JPEG = Format("JPEG", ("L", "RGB"), 65535, {"quality": 95, "subsampling": 0}, None, 1.5)
TIFF = Format("TIFF", ("L", "LA", "RGB", "RGBA"), options={"compression": "tiff_adobe_deflate"}, is_deep=True)
PNG = Format("PNG", ("L", "LA", "RGB", "RGBA"), is_deep=True)
FORMATS = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": Format("WEBP", ("RGB", "RGBA"), 16383, {"quality": 95}, {"lossless": True}, 1.5),
    ".tif": TIFF,
    ".tiff": TIFF,
    ".gif": Format("GIF", ("RGB", "RGBA"), 65535, {}, None, 1),
    ".bmp": Format("BMP", ("L", "RGB")),
    ".avif": Format("AVIF", ("RGB", "RGBA"), 65536, {"quality": 90}, None, 1.5),
}


def is_image_name(path: str | Path) -> bool:
    """Report whether a file name has the suffix of an image format that can be written."""
    return Path(path).suffix.lower() in FORMATS


def usual_suffix(kind: Format) -> str:
    """Return the usual file suffix of a format."""
    return next(suffix for suffix, each in FORMATS.items() if each is kind)


def format_of(path: Path) -> Format:
    """Return the format for a file name. Raises TargetError if its suffix is unknown."""
    if not is_image_name(path):
        raise TargetError(f"{path}: a still is an image, so its name must end in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]
