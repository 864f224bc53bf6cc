"""Upscaling of still images: colors and transparency separately, then resampling to the requested size."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from upres.engine.core.errors import ModelError, SourceError, TargetError
from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Deepening, Model
from upres.engine.models import registry
from upres.engine.models.catalog import DEFAULT_MODEL
from upres.engine.models.chain import as_one, upscale_still
from upres.engine.pipeline.estimate import BASE_MEMORY, Prediction, seconds_a_frame
from upres.engine.pipeline.options import check_height, eight_bit_reason
from upres.engine.pipeline.target import check_target

from .file import read, save
from .formats import Format, format_of
from .picture import Picture, resampled

COPIES = 4  # of the result that are in memory at once: as array, as Pillow image, and during resampling


def upscale_image(
    source: str | Path,
    target: str | Path,
    models: Sequence[Model] = (),
    *,
    model: str = DEFAULT_MODEL,
    scale: int | None = None,
    height: int | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Upscale a still image into a file (PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF); return messages for the user.

    Transparency is upscaled separately. The color profile and EXIF are kept, and the rotation in EXIF is applied.
    models: applied one after the other; by default `model`, loaded by name, at `scale` if it offers several. height: height in
    pixels to resample to.
    Raises UpresError. No file is left behind then.
    """
    place, kind = Path(target), format_of(Path(target))
    picture = read(source)
    check_image_target(source, place, overwrite=overwrite)
    models = models or (registry.load(model, scale=scale)[0],)
    picture, models = fitted(picture, models, kind)
    check_fits(place, kind, *size(picture, models, height))
    return [*picture.notes, *save(upscaled(picture, models, height), place)]


def fitted(picture: Picture, models: Sequence[Model], kind: Format) -> tuple[Picture, Sequence[Model]]:
    """Return an image and models of the same bit depth.

    A 16-bit image is kept if the models and the target support 16 bits; otherwise it is dithered to 8 bits, with a note.
    """
    if not picture.is_deep:
        return picture, models
    why = eight_bit_reason(models) if kind.is_deep else f"{kind.name} holds 8"
    if why is None:
        try:
            return picture, tuple(model.deep() if isinstance(model, Deepening) else model for model in models)
        except ModelError as error:
            why = f"the models take 8 here ({error})"
    note = f"the image's 16 bits a channel become 8, dithered: {why}"
    return replace(picture.shallow(), notes=(*picture.notes, note)), models


def check_image_target(source: object, target: Path, *, overwrite: bool) -> None:
    """Raise TargetError if the image cannot be written, for instance because the target is the source; lists all problems."""
    origin = source if isinstance(source, str | Path) else None
    check_target(origin, target, None, overwrite=overwrite)


def check_fits(target: Path, kind: Format, width: int, height: int) -> None:
    """Raise TargetError if the result is larger than its format supports."""
    if max(width, height) > kind.longest:
        raise TargetError(
            f"{target}: {kind.name} holds {kind.longest} pixels a side, and the result is {width}x{height}; name it "
            f"{target.stem}.png"
        )


def size(picture: Picture, models: Sequence[Model], height: int | None) -> tuple[int, int]:
    """Return width and height of the result. Raises SettingsError if `height` is larger than the models' output."""
    scale = prod(model.scale for model in models)
    if height is None:
        return picture.width * scale, picture.height * scale
    check_height(height, picture.height, scale)
    return max(1, round(picture.width * height / picture.height)), height


def predict(picture: Picture, models: Sequence[Model], kind: Format, height: int | None) -> Prediction:
    """Predict time, memory and disk space for upscaling an image."""
    model, (width, tall) = as_one(models), size(picture, models, height)
    passes = 1 if picture.alpha is None else 2
    seconds = passes * seconds_a_frame(model, picture.width, picture.height) * (1 + len(picture.following))
    disk = round(width * tall * kind.bytes_a_pixel * (1 + picture.is_deep))
    whole = picture.width * picture.height * model.scale**2 * 3 * (1 + picture.is_deep)
    memory = BASE_MEMORY + model.memory(picture.width, picture.height) + COPIES * whole
    return Prediction(width, tall, 1, seconds, memory, disk, seconds, disk, {})


def upscaled(picture: Picture, models: Sequence[Model], height: int | None = None) -> Picture:
    """Return an upscaled image with the metadata of the original."""
    target_size = size(picture, models, height)
    pixels = [picture.rgb, *picture.following]
    alpha = None if picture.alpha is None else _alpha(picture.alpha, models, len(pixels))
    rgb = _through(pixels, models)
    rgb = resampled(rgb, target_size, Image.Resampling.LANCZOS)
    alpha = None if alpha is None else resampled(alpha, target_size, Image.Resampling.LANCZOS)
    return replace(picture, rgb=rgb, alpha=alpha, following=(), notes=())


def side_by_side(before: Picture, after: Picture) -> Picture:
    """Return an image with the original, upscaled bicubically, on the left and the models' result on the right."""
    target_size = after.width, after.height
    rgb = np.concatenate([resampled(before.rgb, target_size, Image.Resampling.BICUBIC), after.rgb], axis=1)
    if before.alpha is None or after.alpha is None:
        return replace(after, rgb=rgb)
    alpha = resampled(before.alpha, target_size, Image.Resampling.BICUBIC)
    return replace(after, rgb=rgb, alpha=np.concatenate([alpha, after.alpha], axis=1))


def _through(pixels: Sequence[Pixels], models: Sequence[Model]) -> Pixels:
    frames = [Frame(np.ascontiguousarray(each), number, 1) for number, each in enumerate(pixels)]
    try:
        return upscale_still(frames, models)
    except MemoryError as error:
        raise SourceError("the memory is not enough for an image of this size; choose a smaller scale") from error


def _alpha(alpha: NDArray[np.uint8 | np.uint16], models: Sequence[Model], count: int) -> NDArray[np.uint8 | np.uint16]:
    """Return transparency upscaled as a gray image, and limited to the range of the surrounding 3x3 source pixels.

    Areas that are uniformly opaque or transparent stay so.
    """
    gray = np.repeat(alpha[..., None], 3, axis=2)
    mean = _through([gray] * count, models).mean(axis=2, dtype=np.float32)
    surroundings = sliding_window_view(np.pad(alpha, 1, "edge"), (3, 3))
    lowest, highest = (
        resampled(extreme, mean.shape[::-1], Image.Resampling.NEAREST)
        for extreme in (surroundings.min(axis=(2, 3)), surroundings.max(axis=(2, 3)))
    )
    result: NDArray[np.uint8 | np.uint16] = np.clip(np.rint(mean), lowest, highest).astype(alpha.dtype)
    return result
