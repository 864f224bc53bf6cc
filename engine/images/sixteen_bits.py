"""Images with 16 bits per channel, which Pillow supports only in gray: FFmpeg handles the pixels, and Pillow the metadata."""

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
"""FFmpeg's pixel formats, without their byte order, and the format into which each is converted."""
IN_PNG = {1: "gray16be", 3: "rgb48be", 4: "rgba64be"}
"""Pixel formats of PNG, by number of channels."""
SIGNATURE = 8  # size in bytes of a PNG's signature
DEFLATE, HORIZONTAL, RGB, BLACK_IS_ZERO, UNASSOCIATED = 8, 2, 2, 1, 2  # values of TIFF 6.0 tags
DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


def is_deep(image: Image.Image) -> bool:
    """Report whether an opened image, whose pixels were not read yet, has 16 bits per channel."""
    return image.mode.startswith("I;16") or ";16" in repr(getattr(image, "tile", ""))


def pixels_of(data: bytes, size: tuple[int, int], method: Image.Transpose | None) -> Deep | None:
    """Decode a 16-bit image, upright: (height, width, 3 or 4) uint16, white at FULL; None if FFmpeg cannot decode it.

    size: width and height according to Pillow, which already exchanges those of a rotated TIFF. method: how to turn the image.
    """
    with suppress(SourceError, av.FFmpegError, StopIteration):
        with closing(open_container("the image", BytesIO(data), None, live=False)) as container:
            frame = next(container.decode(video=0))
            pixel_format = SOURCES.get(frame.format.name[:-2])
            if pixel_format is None or {frame.width, frame.height} != set(size):
                return None
            pixels = leveled(np.asarray(frame.to_ndarray(format=pixel_format), np.uint16), WHITE)
        return pixels if method is None else _by_channel(pixels, lambda channel: channel.transpose(method))
    return None


def resized(pixels: Deep, size: tuple[int, int], how: Image.Resampling) -> Deep:
    """Resample (height, width[, channels]) uint16, white at FULL, to size (width, height)."""
    planes = _by_channel(pixels.reshape(*pixels.shape[:2], -1), lambda channel: channel.resize(size, how))
    result: Deep = np.minimum(planes, FULL).reshape(*planes.shape[:2], *pixels.shape[2:])
    return result


def _by_channel(pixels: Deep, change: Any) -> Deep:  # noqa: ANN401 - from one of Pillow's images to another
    channels = [Image.fromarray(np.ascontiguousarray(pixels[..., index])) for index in range(pixels.shape[2])]
    return np.stack([np.asarray(change(channel)) for channel in channels], axis=2)


def encoded(pixels: Deep, kind: str, facts: Mapping[str, Any]) -> bytes:
    """Encode (height, width, 1, 3 or 4) uint16, white at FULL. kind: PNG or TIFF. facts: metadata as options for Pillow."""
    full_range = ((pixels.astype(np.uint32) * WHITE + FULL // 2) // FULL).astype(np.uint16)
    return _png(full_range, facts) if kind == "PNG" else _tiff(full_range, facts)


def _png(pixels: NDArray[np.uint16], facts: Mapping[str, Any]) -> bytes:
    """Encode pixels with FFmpeg, and insert the metadata chunks that Pillow writes for a PNG of one pixel."""
    height, width, channels = pixels.shape
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, IN_PNG[channels], Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels if channels > 1 else pixels[..., 0], format=IN_PNG[channels])
    data = b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
    pixel = BytesIO()
    Image.new("L" if channels == 1 else "RGB", (1, 1)).save(pixel, "PNG", **facts)
    chunks = list(_chunks(data))
    metadata = [chunk for name, chunk in _chunks(pixel.getvalue()) if name not in (b"IHDR", b"IDAT", b"IEND")]
    head, body = ([chunk for name, chunk in chunks if name in names] for names in ((b"IHDR",), (b"IDAT", b"IEND")))
    return b"".join([data[:SIGNATURE], *head, *metadata, *body])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk of a PNG: its type, and all its bytes."""
    place = SIGNATURE
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        yield data[place + 4 : place + 8], data[place:end]
        place = end


def _tiff(pixels: NDArray[np.uint16], facts: Mapping[str, Any]) -> bytes:
    """Encode a TIFF: Pillow's tag directory, then one deflated strip of horizontal differences (TIFF 6.0, sections 2 and 14)."""
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
    # The offset is counted from the end of the directory.
    tags[tag.RowsPerStrip], tags[tag.StripByteCounts], tags[tag.StripOffsets] = height, len(strip), 0
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
