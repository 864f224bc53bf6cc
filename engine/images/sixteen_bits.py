"""Images of 16 bits a channel, of which Pillow holds gray ones only: pixels by FFmpeg, and what a file says besides by Pillow."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from upres.engine.color.bit_depth import Deep, leveled
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import FULL
from upres.engine.decode.container import open_container

WHITE = 65535
SOURCES = {"gray16": "rgb48le", "rgb48": "rgb48le", "ya16": "rgba64le", "rgba64": "rgba64le"}
"""Pixel formats of FFmpeg without their order of bytes, and what each is read as."""
IN_PNG = {1: "gray16be", 3: "rgb48be", 4: "rgba64be"}
"""By channels."""
SIGNATURE = 8  # bytes in which a PNG begins
DEFLATE, HORIZONTAL, RGB, BLACK_IS_ZERO, UNASSOCIATED = 8, 2, 2, 1, 2  # values of tags of TIFF 6.0
DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


def is_deep(image: Image.Image) -> bool:
    """Tell whether an opened image, of which nothing was read, has 16 bits a channel."""
    return image.mode.startswith("I;16") or ";16" in repr(getattr(image, "tile", ""))


def pixels_of(data: bytes, size: tuple[int, int], method: Image.Transpose | None) -> Deep | None:
    """Read an image of 16 bits, upright: (height, width, 3 or 4) uint16, white at FULL; None where FFmpeg has no decoder for it.

    size: width and height by Pillow, which turns those of a TIFF at once. method: how to turn it.
    """
    with suppress(SourceError, av.FFmpegError, StopIteration):
        with closing(open_container("the image", BytesIO(data), None, live=False)) as container:
            frame = next(container.decode(video=0))
            wanted = SOURCES.get(frame.format.name[:-2])
            if wanted is None or {frame.width, frame.height} != set(size):
                return None
            pixels = leveled(np.asarray(frame.to_ndarray(format=wanted), np.uint16), WHITE)
        return pixels if method is None else _by_channel(pixels, lambda channel: channel.transpose(method))
    return None


def resized(pixels: Deep, size: tuple[int, int], how: Image.Resampling) -> Deep:
    """Resample (height, width[, channels]) uint16, white at FULL, to a width and a height."""
    planes = _by_channel(pixels.reshape(*pixels.shape[:2], -1), lambda channel: channel.resize(size, how))
    result: Deep = np.minimum(planes, FULL).reshape(*planes.shape[:2], *pixels.shape[2:])
    return result


def _by_channel(pixels: Deep, change: Any) -> Deep:  # noqa: ANN401 - from one of Pillow's images to another
    channels = [Image.fromarray(np.ascontiguousarray(pixels[..., index])) for index in range(pixels.shape[2])]
    return np.stack([np.asarray(change(channel)) for channel in channels], axis=2)


def encoded(pixels: Deep, kind: str, facts: Mapping[str, Any]) -> bytes:
    """Give a PNG or a TIFF of (height, width, 1, 3 or 4) uint16, white at FULL. kind: which. facts: as Pillow's options."""
    whole = ((pixels.astype(np.uint32) * WHITE + FULL // 2) // FULL).astype(np.uint16)
    return _png(whole, facts) if kind == "PNG" else _tiff(whole, facts)


def _png(pixels: NDArray[np.uint16], facts: Mapping[str, Any]) -> bytes:
    """Encode by FFmpeg, and put what Pillow says in a PNG of one pixel before the pixels."""
    height, width, channels = pixels.shape
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, IN_PNG[channels], Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels if channels > 1 else pixels[..., 0], format=IN_PNG[channels])
    data = b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
    beside = BytesIO()
    Image.new("L" if channels == 1 else "RGB", (1, 1)).save(beside, "PNG", **facts)
    own = list(_chunks(data))
    said = [chunk for name, chunk in _chunks(beside.getvalue()) if name not in (b"IHDR", b"IDAT", b"IEND")]
    head, body = ([chunk for name, chunk in own if name in names] for names in ((b"IHDR",), (b"IDAT", b"IEND")))
    return b"".join([data[:SIGNATURE], *head, *said, *body])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give each chunk of a PNG: its name, and the whole of it."""
    place = SIGNATURE
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        yield data[place + 4 : place + 8], data[place:end]
        place = end


def _tiff(pixels: NDArray[np.uint16], facts: Mapping[str, Any]) -> bytes:
    """Write one strip of differences from left to right, deflated, behind Pillow's directory of tags (TIFF 6.0, sections 2, 14)."""
    height, width, channels = pixels.shape
    differences = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1]))
    strip = zlib.compress(differences.astype("<u2").tobytes())
    tags = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    if exif := facts.get("exif"):
        loaded = Image.Exif()
        loaded.load(exif)
        for name, value in loaded.items():
            tags[name] = loaded.get_ifd(name) if name in DIRECTORIES else value
    tag = ExifTags.Base
    tags[tag.ImageWidth], tags[tag.ImageLength], tags[tag.BitsPerSample] = width, height, (16,) * channels
    tags[tag.Compression], tags[tag.Predictor] = DEFLATE, HORIZONTAL
    tags[tag.PhotometricInterpretation], tags[tag.SamplesPerPixel] = (BLACK_IS_ZERO if channels == 1 else RGB), channels
    tags[tag.RowsPerStrip], tags[tag.StripByteCounts], tags[tag.StripOffsets] = (
        height,
        len(strip),
        0,
    )  # from the directory's end
    if channels == 4:
        tags[tag.ExtraSamples] = UNASSOCIATED
    if icc := facts.get("icc_profile"):
        tags.tagtype[tag.InterColorProfile], tags[tag.InterColorProfile] = TiffTags.UNDEFINED, icc
    if dpi := facts.get("dpi"):
        tags[tag.ResolutionUnit], (tags[tag.XResolution], tags[tag.YResolution]) = 2, dpi
    for place in (tag.StripOffsets, tag.StripByteCounts):
        tags.tagtype[place] = TiffTags.LONG
    file = BytesIO()
    tags.save(file)
    return file.getvalue() + strip
