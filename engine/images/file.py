"""Reading and writing of image files with Pillow; every problem is reported in one sentence."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFilter, UnidentifiedImageError

from upres.engine.color.bit_depth import Deep
from upres.engine.core.errors import SourceError, TargetError, UpresError, os_errors_as, reason
from upres.engine.core.frame import FULL
from upres.engine.decode.container import LIMIT, check_size
from upres.engine.decode.openers.web import WebFile
from upres.engine.decode.source import kind_of
from upres.engine.segments.whole_file import partial_path, put_in_place

from .formats import FORMATS, JPEG, TIFF, Format, format_of
from .metadata import ORIENTATION, TURNS, Metadata, metadata, to_srgb, upright
from .picture import Picture
from .sixteen_bits import encoded as deep_encoded
from .sixteen_bits import is_deep, pixels_of

WEB = ("http", "https")
READ = tuple(dict.fromkeys(kind.name for kind in FORMATS.values()))
"""Pillow's formats that are accepted, regardless of a file's name. Others are excluded because EPS, for one, starts Ghostscript."""
IN_JPEG = {"exif": 65533, "xmp": 65504}
"""Maximum size in bytes of metadata in a JPEG segment; a segment with XMP also contains its name."""
ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")
"""Pillow's formats in which further images are animation frames; in others they are pages or previews."""
NO_IMAGE = "not an image that can be read"
# Distance in pixels up to which transparent pixels get the color of opaque ones; more than a network's halo needs.
NEAR = 8


def read(source: str | Path | IO[bytes]) -> Picture:
    """Read a still image, upright, as RGB with separate transparency.

    CMYK is converted to sRGB, with a note. Only the first of several pages is read. 16 bits per channel are kept if FFmpeg can
    decode them. Raises SourceError if the image cannot be read.
    """
    name = str(source) if isinstance(source, str | Path) else "the source"
    with opened(name, source) as image:
        has_16, notes = is_deep(image), list(_notes(image))
        exif = image.getexif()  # for PNG, this also reads the pixels
        if image.mode in ("I", "F"):
            raise SourceError(
                f"{name}: holds numbers of 32 bits, whose black and white are not known; save it with 8 or 16"
            )
        method, deep = TURNS.get(exif.get(ORIENTATION)), None
        if has_16:
            deep = pixels_of(_bytes(source), image.size, method)
            notes += ["the image's 16 bits a channel become 8"] * (deep is None)
        turned = upright(image, exif)
        facts, lost = metadata(turned, exif)
        if turned.mode == "CMYK":
            turned, icc = to_srgb(turned)
            facts = replace(facts, icc=icc)
        return _picture(turned, facts, (*notes, *lost), deep)


def save(picture: Picture, target: Path, *, exact: bool = False) -> list[str]:
    """Write an image file, which appears under its name only once it is complete; return messages for the user.

    exact: write it without loss. Raises TargetError.
    """
    data, notes = encoded(picture, format_of(target), str(target), exact=exact)
    part = partial_path(target)
    try:
        with os_errors_as(target, TargetError):
            part.write_bytes(data)
            put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)
    return notes


def encoded(picture: Picture, kind: Format, name: str, *, exact: bool = False) -> tuple[bytes, list[str]]:
    """Return an image as the bytes of a file, and messages for the user. name: for error messages. exact, errors: as for `save`."""
    if picture.is_deep and kind.is_deep:
        pixels = picture.deep()
        stand_in = Image.new("L" if pixels.shape[2] == 1 else "RGB", (picture.width, picture.height))
        return deep_encoded(pixels, kind.name, picture.metadata.options(stand_in)), []
    picture = picture.shallow()
    options = kind.exact if exact else kind.options
    if options is None:
        raise TargetError(f"{name}: {kind.name} loses some of the image; PNG keeps all of it")
    if kind is TIFF and picture.metadata.has_directories:
        options = {}  # uncompressed, because Pillow compresses with libtiff, to which it does not pass EXIF directories
    image, notes = _fitting(picture, kind)
    facts = picture.metadata.options(image)
    if kind is JPEG:
        notes += _shortened(facts)
    file = BytesIO()
    try:
        image.save(file, kind.name, **options, **facts)
    except (OSError, ValueError, RuntimeError) as error:
        raise TargetError(f"{name}: cannot be saved as {kind.name} ({error})") from error
    return file.getvalue(), notes


def _shortened(facts: dict[str, object]) -> list[str]:
    """Remove metadata that is too long for a JPEG from Pillow's options; return notes about it."""
    notes = []
    for name, limit in IN_JPEG.items():
        data = facts.get(name)
        if isinstance(data, bytes) and len(data) > limit:
            del facts[name]
            notes.append(
                f"the image's {name.upper()}, {len(data)} bytes, is left out: JPEG holds {limit}; PNG holds all of it"
            )
    return notes


@contextmanager
def opened(name: str, source: str | Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open an image of a supported size, and convert all errors while it is open to SourceError."""
    try:
        with warnings.catch_warnings(action="ignore"):  # for instance about damaged metadata, which is ignored
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _file(source) as file, Image.open(file, formats=READ) as image:
                check_size(name, *image.size)
                yield image
    except UpresError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SourceError(f"{name}: larger than can be held; the limit is {LIMIT}") from error
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        empty = isinstance(source, str | Path) and kind_of(source) not in WEB and not Path(source).stat().st_size
        raise SourceError(f"{name}: {'the file is empty' if empty else NO_IMAGE}") from error
    except PermissionError as error:
        raise SourceError(f"{name}: cannot be opened ({error.strerror})") from error
    except Exception as error:  # damaged files can raise any exception
        raise SourceError(f"{name}: {NO_IMAGE} ({reason(error)})") from error


def _file(source: str | Path | IO[bytes]) -> AbstractContextManager[str | Path | IO[bytes]]:
    """Return a file object for a web address; anything else unchanged, for Pillow to open."""
    if isinstance(source, str | Path) and kind_of(source) in WEB:
        return BufferedReader(WebFile(str(source)))
    return nullcontext(source)


def moves(image: Image.Image) -> bool:
    """Report whether an opened image is animated; further pages and previews do not count."""
    return image.format in ANIMATED and getattr(image, "is_animated", False)


def _notes(image: Image.Image) -> Iterator[str]:
    """Yield notes about what is lost of an opened image."""
    if image.mode == "CMYK":
        yield "the image's inks (CMYK) become sRGB"
    if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1:
        yield f"only the first of {pages} pages is upscaled"


def _bytes(source: str | Path | IO[bytes]) -> bytes:
    """Return all bytes of a source of which Pillow has read the beginning."""
    with _file(source) as file:
        if isinstance(file, str | Path):
            return Path(file).read_bytes()
        file.seek(0)
        data = file.read()
        file.seek(0)
        return data


def _picture(image: Image.Image, facts: Metadata, notes: tuple[str, ...], deep: Deep | None) -> Picture:
    """Return a Picture of an upright image. deep: its pixels if they have 16 bits."""
    shallow = _shallow_picture(image, facts, notes)
    if deep is None:
        return shallow
    rgb, alpha = deep[..., :3], deep[..., 3:]
    if not alpha.size or alpha.min() == FULL:
        return replace(shallow, rgb=rgb, alpha=None)
    spread = shallow.rgb.astype(np.uint16) << 8
    return replace(shallow, rgb=np.where(alpha > 0, rgb, spread), alpha=alpha[..., 0])


def _shallow_picture(image: Image.Image, facts: Metadata, notes: tuple[str, ...]) -> Picture:
    gray = image.mode.partition(";")[0] in ("1", "L", "LA", "I")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return Picture(np.asarray(image.convert("RGB")), None, gray, facts, (), notes)
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return Picture(np.asarray(image.convert("RGB")), None, gray, facts, (), notes)
    return Picture(np.asarray(_spread(image, alpha)), np.asarray(alpha), gray, facts, (), notes)


def _spread(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return an image whose fully transparent pixels have the color of nearby opaque ones.

    Otherwise the network would mix their color, which is often black, into the edges.
    """
    near = image.convert("RGBa").filter(ImageFilter.BoxBlur(NEAR)).convert("RGBA").convert("RGB")
    return Image.composite(image.convert("RGB"), near, alpha.point(lambda value: 255 * (value > 0)))


def _fitting(picture: Picture, kind: Format) -> tuple[Image.Image, list[str]]:
    """Return an image in a mode that a format supports, and notes about what is lost."""
    image = picture.image()
    if "A" in image.mode and not kind.has_alpha:
        white = Image.new("RGBA", image.size, "white")
        flat = Image.alpha_composite(white, image.convert("RGBA")).convert("L" if picture.gray else "RGB")
        return flat, [f"{kind.name} holds no transparency: it is laid over white"]
    if image.mode not in kind.modes:
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    return image, []
