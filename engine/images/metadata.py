"""Metadata of image files (color profile, EXIF, XMP and resolution), which is copied to the upscaled image."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image, ImageCms

EXIF, GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
ORIENTATION = ExifTags.Base.Orientation
SIZES = (
    (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength),
    (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight),
)
"""EXIF tags with the size of the image."""
STORAGE = frozenset(
    {254, 255, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 318, 319, 320, 322, 323, 324, 325, 330, 338, 339}
    | {347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675}
)
"""TIFF 6.0 tags that describe how pixels, a profile or a thumbnail are stored in the source file; not copied."""
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transformation to the upright position, by EXIF orientation. Pillow's own function for this fails if EXIF is damaged."""
ORIENTATION_IN_XMP = re.compile(rb'tiff:Orientation="\d"|<tiff:Orientation>\d</tiff:Orientation>')
COLORS = {"L": b"GRAY", "RGB": b"RGB "}
"""Color space signature of a profile (ICC.1:2022, 7.2.6), by Pillow's mode without alpha."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an image file. icc, exif, xmp: encoded. dpi: horizontal and vertical."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    @property
    def has_directories(self) -> bool:
        """Report whether its EXIF has the directories for camera settings or location, which TIFF stores outside its main tags."""
        exif = _loaded(self.exif or b"")
        return EXIF in exif or GPS in exif

    def options(self, image: Image.Image) -> dict[str, object]:
        """Return it as options for Pillow's `save`; a profile for another color space than the image's is left out."""
        return dict(self._options(image))

    def _options(self, image: Image.Image) -> Iterator[tuple[str, object]]:
        if self.icc and self.icc[16:20] == COLORS.get(image.mode.rstrip("A")):
            yield "icc_profile", self.icc
        if self.exif:
            yield "exif", _sized(self.exif, image.width, image.height)
        if self.xmp:
            yield "xmp", self.xmp
        if self.dpi:
            yield "dpi", self.dpi


def upright(image: Image.Image, exif: Image.Exif) -> Image.Image:
    """Load the pixels of an opened image; return it in upright position, according to its EXIF."""
    image.load()  # for TIFF, Pillow already applies the orientation here, and removes it from EXIF
    method = TURNS.get(exif.get(ORIENTATION))
    return image if method is None else image.transpose(method)


def metadata(image: Image.Image, exif: Image.Exif) -> tuple[Metadata, list[str]]:
    """Return the metadata of an upright image, and notes about what is lost. exif: obtained before its pixels were loaded."""
    has_exif, kept = "exif" in image.info, _kept(exif) if len(exif) else None
    notes = ["the image's EXIF is damaged and left out"] if has_exif and kept is None else []
    xmp, dpi = image.info.get("xmp"), image.info.get("dpi")
    facts = Metadata(
        icc=image.info.get("icc_profile"),
        exif=kept or None,
        xmp=ORIENTATION_IN_XMP.sub(b"", xmp) if isinstance(xmp, bytes) else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(float(value) > 0 for value in dpi) else None,
    )
    return facts, notes


def _kept(exif: Image.Exif) -> bytes | None:
    """Return EXIF without the tags that apply only to the source file; empty if nothing is left, None if it is damaged."""
    try:
        for directory in filter(exif.__contains__, (EXIF, GPS)):
            exif.get_ifd(directory)  # loads the directory, which is not available once the file is closed
        for tag in (*STORAGE, ORIENTATION):
            if tag in exif:
                del exif[tag]
        return exif.tobytes() if len(exif) else b""
    except Exception:  # Pillow can raise any exception for values whose type does not fit their tag
        return None


def to_srgb(image: Image.Image) -> tuple[Image.Image, bytes | None]:
    """Convert a CMYK image to sRGB by its color profile; return the image and the sRGB profile.

    Without a usable profile, the simple formula is used, and the returned profile is None.
    """
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info.get("icc_profile", b"")))
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB"), None
    assert converted is not None
    return converted, srgb.tobytes()


def _sized(data: bytes, width: int, height: int) -> bytes:
    """Return EXIF with all size tags that it has set to the new size."""
    exif = _loaded(data)
    places = [exif, *(exif.get_ifd(directory) for directory in (EXIF, GPS) if directory in exif)]  # also loads them
    for tags in places:
        for across, down in SIZES:
            for tag, length in ((across, width), (down, height)):
                if tag in tags:
                    tags[tag] = length
    return exif.tobytes()


def _loaded(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif
