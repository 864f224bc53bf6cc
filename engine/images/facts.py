"""Description of an image file for the user. The file is read completely, because transparency depends on its pixels."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image, ImageCms

from .file import opened, read
from .metadata import ORIENTATION
from .sixteen_bits import is_deep

COLORS = {
    "1": "gray",
    "L": "gray",
    "LA": "gray",
    "I": "gray",
    "P": "a palette",
    "PA": "a palette",
    "CMYK": "inks (CMYK)",
}
"""Names of color spaces, by Pillow's mode; all other modes are RGB."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Properties of an image. format: Pillow's name. width, height: upright. bits: per channel. profile: name of the color profile.

    notes: messages about what is lost in upscaling.
    """

    format: str
    width: int
    height: int
    bits: int
    color: str
    profile: str | None
    transparent: bool
    exif: bool
    turned: bool
    notes: tuple[str, ...]


def facts_of(source: str | Path | IO[bytes]) -> Facts:
    """Return the properties of an image. Raises SourceError if it cannot be read."""
    picture = read(source)
    if not isinstance(source, str | Path):
        source.seek(0)
    with opened(str(source), source) as image:
        mode = image.mode.partition(";")[0]
        return Facts(
            format=str(image.format),
            width=picture.width,
            height=picture.height,
            bits=_bits(image),
            color=COLORS.get(mode, "RGB"),
            profile=_profile(image.info.get("icc_profile")),
            transparent=picture.alpha is not None,
            exif=picture.metadata.exif is not None,
            turned=image.getexif().get(ORIENTATION, 1) != 1,
            notes=picture.notes,
        )


def _bits(image: Image.Image) -> int:
    return 16 if is_deep(image) else 1 if image.mode == "1" else 8


def _profile(icc: bytes | None) -> str | None:
    if not icc:
        return None
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(icc))).strip() or "unnamed"
    except (ImageCms.PyCMSError, OSError):
        return "damaged"
