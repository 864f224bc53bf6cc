"""Checks that reject a job before it starts because this machine lacks the memory, disk space or speed for it."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import psutil
from rich.filesize import decimal

from upres.engine.core.errors import ModelError, SettingsError, SourceError, TargetError
from upres.engine.core.model import Model, Predicting, Spooling
from upres.engine.core.text import number
from upres.engine.encode.options import Encoder
from upres.engine.machine import device_memory
from upres.engine.machine.video_engines import video_engines

from .estimate import Prediction

# Maximum ratio of predicted time to real time of a live job; predictions are not more accurate than that.
LIVE_SLACK = 2
PATIENCE_SECONDS = 600  # predicted duration up to which a run on a CPU starts without confirmation


def check_memory_and_disk(prediction: Prediction, folder: Path) -> None:
    """Raise SourceError if memory is insufficient, TargetError if disk space is; call it before any work is done."""
    memory = psutil.virtual_memory().available
    if prediction.gpu > prediction.gpu_free:
        raise SourceError(device_memory.no_room(prediction.gpu, prediction.gpu_free))
    if prediction.memory > memory:
        needed, free = decimal(prediction.memory), decimal(memory)
        raise SourceError(
            f"this needs about {needed} of memory and {free} are free; choose a smaller scale or a smaller source"
        )
    needs = [(folder, prediction.disk or 0, "the log, and twice the result")]
    needs += [(Path(name), count, "the shot being upscaled") for name, count in prediction.spool.items()]
    _check_disks(needs)


def _check_disks(needs: Sequence[tuple[Path, int, str]]) -> None:
    """Raise TargetError if the folders on one disk together need more than is free on it. needs: (folder, bytes, purpose)."""
    disks: dict[int, list[tuple[Path, int, str]]] = defaultdict(list)
    for folder, count, purpose in needs:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        disks[existing.stat().st_dev].append((existing, count, purpose))
    for parts in disks.values():
        needed, free = sum(count for _, count, _ in parts), shutil.disk_usage(parts[0][0]).free
        if needed > free:
            uses = ", ".join(f"{decimal(count)} in {folder} for {purpose}" for folder, count, purpose in parts if count)
            raise TargetError(f"this needs about {decimal(needed)} of disk and {decimal(free)} are free: {uses}")


def check_encoder_opens(encoder: Encoder) -> None:
    """Raise SettingsError if NVENC is requested but no GPU can open it. This is tried once, in a separate process."""
    if encoder.nvenc and (problem := _nvenc_problem()):
        raise SettingsError(
            f"NVENC cannot be opened here: {problem}; without `nvenc` the CPU encodes, and `upres doctor` reports what is missing"
        )


@cache
def _nvenc_problem() -> str | None:
    return video_engines()[0].problem


def check_duration(prediction: Prediction, models: Sequence[Model]) -> None:
    """Raise SettingsError if models that predict their own time (those made for GPUs) would take long on this machine."""
    heavy = [model.name for model in models if isinstance(model, Predicting)]
    if heavy and prediction.seconds is not None and prediction.seconds > PATIENCE_SECONDS:
        raise SettingsError(
            f"{', '.join(heavy)} would take about {prediction.seconds / 3600:.1f} hours on this machine; `yes` starts it, "
            "`duration` 3 tries three seconds, and RealESRGAN_Vid_x4 is far lighter"
        )


def check_live_capacity(model: Model, width: int, height: int, rate: float) -> None:
    """Raise ModelError if a model that predicts its time is far too slow for a live source, or needs too much memory."""
    if not isinstance(model, Predicting):
        return
    slow = model.seconds(width, height) * rate
    if slow > LIVE_SLACK:
        raise ModelError(
            f"{model.name} is about {slow:.0f} times too slow here for a live source of {width}x{height} at {number(rate, 4)} "
            "frames a second; use a smaller source, or a lighter model such as RealESRGAN_Vid_x2"
        )
    if not isinstance(model, Spooling):
        return
    needed, free = model.memory(width, height, live=True), psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"{model.name} needs about {decimal(needed)} of memory for a live source of {width}x{height}, whose tiles are all kept "
            f"at once, and {decimal(free)} are free; use a smaller source, or send it as a job, which keeps one tile at a time"
        )
