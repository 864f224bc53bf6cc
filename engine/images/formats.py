"""The image formats by the names of their files: what each can hold, and how it is saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upres.engine.core.errors import TargetError


@dataclass(frozen=True, slots=True)
class Format:
    """An image format. name: Pillow's.

    modes: of Pillow, that it holds as they are, the one for color and transparency last. longest: pixels of its longest side.
    options: to save with. exact: those that lose nothing; None where it always does. bytes_a_pixel: about the most that it takes.
    is_deep: whether it holds 16 bits a channel.
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
        """Tell whether it holds transparency."""
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
    """Tell whether a file's name ends as an image's that can be written."""
    return Path(path).suffix.lower() in FORMATS


def usual_suffix(kind: Format) -> str:
    """Return the suffix that files of a format usually have."""
    return next(suffix for suffix, each in FORMATS.items() if each is kind)


def format_of(path: Path) -> Format:
    """Return the format that a file's name asks for; TargetError where there is none."""
    if not is_image_name(path):
        raise TargetError(f"{path}: a still is an image, so its name must end in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]
