"""What an image file says besides its pixels: its color profile, EXIF, XMP and resolution, kept for the upscaled one."""

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
"""Tags of EXIF that say how large the image is."""
STORAGE = frozenset(
    {254, 255, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 318, 319, 320, 322, 323, 324, 325, 330, 338, 339}
    | {347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675}
)
"""Tags of TIFF 6.0 that say how the pixels, a profile or a thumbnail lie in the file, which is another one now."""
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation: what makes an image stand upright. Pillow's own way to turn one fails on EXIF that is damaged."""
ORIENTATION_IN_XMP = re.compile(rb'tiff:Orientation="\d"|<tiff:Orientation>\d</tiff:Orientation>')
COLORS = {"L": b"GRAY", "RGB": b"RGB "}
"""ICC.1:2022, 7.2.6: the color space that a profile is for, by Pillow's mode without its alpha."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says besides its pixels. icc, exif, xmp: as bytes. dpi: across and down."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    @property
    def has_directories(self) -> bool:
        """Tell whether its EXIF holds more than what is in a TIFF of its own: when, where and how a photo was taken."""
        exif = _loaded(self.exif or b"")
        return EXIF in exif or GPS in exif

    def options(self, image: Image.Image) -> dict[str, object]:
        """Say it as Pillow's options to save an image with; a profile for other colors is left out."""
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
    """Read the pixels of an opened image and turn them as its EXIF asks for."""
    image.load()  # by which Pillow turns a TIFF, and says so in its EXIF
    method = TURNS.get(exif.get(ORIENTATION))
    return image if method is None else image.transpose(method)


def metadata(image: Image.Image, exif: Image.Exif) -> tuple[Metadata, list[str]]:
    """Collect what an upright image says, and notes on what of it is lost. exif: of the file, asked for before its pixels."""
    found, kept = "exif" in image.info, _kept(exif) if len(exif) else None
    notes = ["the image's EXIF is damaged and left out"] if found and kept is None else []
    xmp, dpi = image.info.get("xmp"), image.info.get("dpi")
    facts = Metadata(
        icc=image.info.get("icc_profile"),
        exif=kept or None,
        xmp=ORIENTATION_IN_XMP.sub(b"", xmp) if isinstance(xmp, bytes) else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(float(value) > 0 for value in dpi) else None,
    )
    return facts, notes


def _kept(exif: Image.Exif) -> bytes | None:
    """Give EXIF without what was true of the file only; empty where nothing is left, None where it is damaged."""
    try:
        for directory in filter(exif.__contains__, (EXIF, GPS)):
            exif.get_ifd(directory)  # or it is lost with the file
        for tag in (*STORAGE, ORIENTATION):
            if tag in exif:
                del exif[tag]
        return exif.tobytes() if len(exif) else b""
    except Exception:  # values of other types than their tags', of which Pillow raises whatever comes of them
        return None


def to_srgb(image: Image.Image) -> tuple[Image.Image, bytes | None]:
    """Convert an image of inks (CMYK) to RGB by its profile; gives it, and its profile from now on.

    Without a profile that can be used, by the plain formula, and without one.
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
    """Set the size that the image has now in EXIF, where it says one."""
    exif = _loaded(data)
    places = [exif, *(exif.get_ifd(directory) for directory in (EXIF, GPS) if directory in exif)]  # or they are lost
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
