"""What an upscale will take, before it starts: size, time, memory, disk. Time comes from one short run, not from a table."""

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from rich.filesize import decimal

from upres.engine.core.errors import ModelError, SettingsError, SourceError, TargetError
from upres.engine.core.frame import Frame, Shape
from upres.engine.core.model import Model, Predicting, Spooling
from upres.engine.decode.reader import Reader

from .run import Job, after_prefilters, queue_budget, resolved

TRIAL_SIDE = 128  # pixels a side of the frame that the speed is measured on
BITS_A_PIXEL = 0.25  # of H.264 at CRF 18; clean enlarged video takes less
ENCODER_FRAMES = 40  # full frames that x264 holds for its look-ahead, references and threads
LIVE_SLACK = 2  # times as long as its source a live job may be predicted to take: no prediction is better than that
PATIENCE_SECONDS = 600  # that a run on a CPU may take without being asked for
BASE_MEMORY = 170 << 20  # interpreter, libraries, weights


@dataclass(frozen=True, slots=True)
class Prediction:
    """width, height: of the result. frames, seconds, disk: None where the source does not say how long it is. bytes.

    frame_seconds, frame_disk: what each frame takes. disk: of the log and twice the result. spool: by folder, what models keep
    on disk of a shot, if the whole source is one.
    """

    width: int
    height: int
    frames: int | None
    seconds: float | None
    memory: int
    disk: int | None
    frame_seconds: float
    frame_disk: int
    spool: dict[str, int]


def predict(reader: Reader, job: Job) -> Prediction:
    """Predict an upscale of an open source; takes about the time of one small frame through every model.

    Raises SourceError where the source ends before the cut begins.
    """
    if job.cut.start:
        reader.check_reaches(job.cut.start)
    shape = after_prefilters(reader.info.shape, job.prefilters)
    _, encoding = resolved(job, shape)
    frames = _frames(reader, job)
    pixels = encoding.width * encoding.height
    per_frame = sum(_seconds_a_frame(job, shape.width, shape.height))
    frame_disk = 3 * math.ceil(pixels * (24 if encoding.library == "libx264rgb" else BITS_A_PIXEL) / 8)
    return Prediction(
        width=encoding.width,
        height=encoding.height,
        frames=frames,
        seconds=None if frames is None else frames * per_frame,
        memory=_memory(job, shape, pixels),
        disk=None if frames is None else frames * frame_disk,
        frame_seconds=per_frame,
        frame_disk=frame_disk,
        spool={} if frames is None else _spool(job, shape, frames),
    )


def refuse_what_cannot_fit(prediction: Prediction, folder: Path) -> None:
    """SourceError where memory cannot hold it, TargetError where the disk cannot: before any work is done."""
    memory = psutil.virtual_memory().available
    if prediction.memory > memory:
        needed, there = decimal(prediction.memory), decimal(memory)
        raise SourceError(
            f"this needs about {needed} of memory and {there} are free; choose a smaller scale, or cut the clip smaller"
        )
    wanted = [(folder, prediction.disk or 0, "the log, and twice the result")]
    wanted += [(Path(name), count, "a shot that is upscaled") for name, count in prediction.spool.items()]
    _refuse_full_disks(wanted)


def _refuse_full_disks(wanted: Sequence[tuple[Path, int, str]]) -> None:
    """TargetError where folders on one disk need more than is free on it. wanted: folder, bytes, what for."""
    disks: dict[int, list[tuple[Path, int, str]]] = defaultdict(list)
    for folder, count, purpose in wanted:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        disks[existing.stat().st_dev].append((existing, count, purpose))
    for parts in disks.values():
        needed, free = sum(count for _, count, _ in parts), shutil.disk_usage(parts[0][0]).free
        if needed > free:
            uses = ", ".join(f"{decimal(count)} in {folder} for {purpose}" for folder, count, purpose in parts if count)
            raise TargetError(f"this needs about {decimal(needed)} of disk and {decimal(free)} are free: {uses}")


def refuse_what_takes_long(prediction: Prediction, models: Sequence[Model]) -> None:
    """SettingsError where a model that predicts its own time, which is one made for GPUs, would take long here."""
    heavy = [model.name for model in models if isinstance(model, Predicting)]
    if heavy and prediction.seconds is not None and prediction.seconds > PATIENCE_SECONDS:
        raise SettingsError(
            f"{', '.join(heavy)} would take about {prediction.seconds / 3600:.1f} hours on this machine; --yes starts it, "
            "--duration 3 tries three seconds, and RealESRGAN_Vid_x4 is far lighter"
        )


def refuse_what_cannot_run_live(model: Model, width: int, height: int, rate: float) -> None:
    """ModelError where a model that predicts its own time would fall far behind a live source, or not fit into memory."""
    if not isinstance(model, Predicting):
        return
    slow = model.seconds(width, height) * rate
    if slow > LIVE_SLACK:
        raise ModelError(
            f"{model.name} is about {slow:.0f} times too slow here for a live source of {width}x{height} at {rate:.4g} frames a "
            "second; take a smaller source, or a lighter model such as RealESRGAN_Vid_x2"
        )
    if not isinstance(model, Spooling):
        return
    needed, there = model.memory(width, height, live=True), psutil.virtual_memory().available
    if needed > there:
        raise ModelError(
            f"{model.name} needs about {decimal(needed)} of memory for a live source of {width}x{height}, whose tiles are all held "
            f"at once, and {decimal(there)} are free; take a smaller source, or send it as a job, which holds one tile at a time"
        )


def _frames(reader: Reader, job: Job) -> int | None:
    """How many frames come out; None where the source does not say how long it is."""
    info, cut = reader.info, job.cut
    rate = int(after_prefilters(info.shape, job.prefilters).rate / info.shape.rate)
    seconds = info.seconds
    if seconds is None or (info.frames and not cut.start and cut.duration is None):
        return info.frames and info.frames * rate
    left = max(0.0, seconds - float(cut.start))
    lasts = min(left, float(cut.duration)) if cut.duration is not None else left
    return rate * max(1, math.ceil(lasts * float(info.shape.rate)))


def _seconds_a_frame(job: Job, width: int, height: int) -> list[float]:
    """For each model, its time on a small frame, scaled up to a whole one."""
    seconds = []
    for model in job.models:
        if isinstance(model, Predicting):
            seconds.append(model.seconds(width, height))
            width, height = width * model.scale, height * model.scale
            continue
        side_x, side_y = min(TRIAL_SIDE, width), min(TRIAL_SIDE, height)
        trial = Frame(np.zeros((side_y, side_x, 3), np.uint8), 0, 1)
        session = model.open(side_x, side_y)
        for _ in range(2):  # the first run also warms up
            start = time.perf_counter()
            list(session.push(trial))
            once = time.perf_counter() - start
        session.close()
        seconds.append(once * width * height / (side_x * side_y))
        width, height = width * model.scale, height * model.scale
    return seconds


def _memory(job: Job, shape: Shape, pixels_out: int) -> int:
    width, height, need = shape.width, shape.height, 0
    for model in job.models:
        need += model.memory(width, height)
        width, height = width * model.scale, height * model.scale
    queues = queue_budget(shape) + queue_budget(replace(shape, width=width, height=height))
    return BASE_MEMORY + need + queues + ENCODER_FRAMES * pixels_out * 3 // 2


def _spool(job: Job, shape: Shape, frames: int) -> dict[str, int]:
    """By folder, what the models of a chain keep there at once."""
    width, height = shape.width, shape.height
    found: dict[str, int] = defaultdict(int)
    for model in job.models:
        if isinstance(model, Spooling) and model.spool and (count := model.spooled(width, height, frames)):
            found[str(model.spool)] += count
        width, height = width * model.scale, height * model.scale
    return dict(found)
