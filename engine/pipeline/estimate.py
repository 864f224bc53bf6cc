"""Predictions of an upscale before it starts: size, time, memory, disk. The time is measured in a short trial run."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from upres.engine.core.frame import Frame, Shape
from upres.engine.core.model import Model, OnGPU, Pipelined, Planar, Predicting, Session, Spooling, TrialSize
from upres.engine.decode.reader import Reader
from upres.engine.encode.encoder_memory import encoder_memory
from upres.engine.encode.options import Encoding
from upres.engine.models.chain import ChainedModel
from upres.engine.runtime.base import cpus

from .encoders import another_encoder, encoders_that_fit
from .frame_count import count_frames
from .keep_up import keep_up_budget
from .options import Job, after_prefilters, resolved
from .stage import queue_budget

TRIAL_SIDE = 128  # width and height in pixels of the frame that the speed is measured on
DECODER_FRAMES = 17  # reference frames that H.264 and HEVC may keep, and the frame being decoded
BASE_MEMORY = 170 << 20  # bytes of the interpreter, libraries and weights


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted cost of an upscale. width, height: of the result. frames, seconds, disk: None if the duration is unknown.

    Memory and disk are in bytes. frame_seconds, frame_disk: per frame. disk: the log and twice the result. spool: by folder, the
    disk space that models need for one shot, assuming that the whole source is a single shot. encoders: number of encoders that
    run concurrently to keep up with the models; memory includes them. gpu: GPU memory used by models that allocate a fixed amount.
    gpu_free: GPU memory that was free when these models were loaded.
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
    encoders: int = 1
    gpu: int = 0
    gpu_free: int = 0


def predict(reader: Reader, job: Job) -> Prediction:
    """Predict the cost of upscaling an open source. This takes about the time of one small frame through every model.

    Raises SourceError if the source ends before the cut begins.
    """
    if job.cut.start:
        reader.check_reaches(job.cut.start)
    shape = after_prefilters(reader.info.shape, job.prefilters)
    _, encoding = resolved(job, shape)
    frames = count_frames(reader, job)
    per_frame = sum(seconds_a_frame(*stage, deep=shape.deep) for stage in _stages(job, shape))
    another = another_encoder(shape, encoding, job.scale, frames)
    memory = estimate_memory(job, shape, encoding, frames) + reader.ahead
    encoders = encoders_that_fit(another, model_seconds=per_frame, memory=memory)
    frame_disk = 3 * math.ceil(encoding.width * encoding.height * _bits_a_pixel(encoding) / 8)
    return Prediction(
        width=encoding.width,
        height=encoding.height,
        frames=frames,
        seconds=None if frames is None else frames * per_frame,
        memory=memory + (encoders - 1) * another.bytes,
        disk=None if frames is None else frames * frame_disk,
        frame_seconds=per_frame,
        frame_disk=frame_disk,
        spool={} if frames is None else _spool_bytes(job, shape, frames),
        encoders=encoders,
        **_gpu_memory(job, shape),
    )


def _gpu_memory(job: Job, shape: Shape) -> dict[str, int]:
    """Return the GPU memory that the models will use, and how much was free when they were loaded."""
    needed, free = 0, []
    for model, width, height in _stages(job, shape):
        if isinstance(model, OnGPU) and model.gpu_free is not None:
            needed += model.gpu_memory(width, height, live=job.encoder.live)
            free.append(model.gpu_free)
    return {"gpu": needed, "gpu_free": min(free, default=0)}


def _bits_a_pixel(encoding: Encoding) -> float:
    """Return the approximate maximum number of bits per pixel of the result."""
    if encoding.encoder.codec == "lossless":
        return 24 if encoding.library == "libx264rgb" else 36
    return encoding.encoder.facts.bits


def estimate_memory(job: Job, shape: Shape, encoding: Encoding, frames: int | None = None) -> int:
    """Predict the peak memory of an upscale in bytes, including models, decoder and one encoder.

    shape: of the source's frames after the pre-filters. frames: in the whole result; None if unknown.
    """
    models = sum(model.memory(width, height) for model, width, height in _stages(job, shape))
    return models + media_memory(shape, encoding, job.scale, frames, keep_up=job.keep_up)


def media_memory(
    shape: Shape, encoding: Encoding, scale: int, frames: int | None = None, *, keep_up: bool = False
) -> int:
    """Predict the memory in bytes of everything except the models: the process itself, decoder, queues and one encoder.

    frames: in the whole result; None if unknown. keep_up: as in Job.
    """
    upscaled = replace(shape, width=shape.width * scale, height=shape.height * scale)
    decoder = (DECODER_FRAMES + cpus()) * shape.frame_bytes // 2
    queues = (keep_up_budget(shape) if keep_up else queue_budget(shape)) + queue_budget(upscaled)
    return BASE_MEMORY + decoder + queues + encoder_memory(encoding, frames)


def _stages(job: Job, shape: Shape) -> Iterator[tuple[Model, int, int]]:
    """Yield each model with the width and height of its input frames."""
    width, height = shape.width, shape.height
    for model in job.models:
        yield model, width, height
        width, height = width * model.scale, height * model.scale


def seconds_a_frame(model: Model, width: int, height: int, *, deep: bool = False) -> float:
    """Measure a model on a small frame, or on a frame of the size it requests, and scale the time up to a whole frame.

    deep: whether its frames are uint16.
    """
    if isinstance(model, ChainedModel):
        return sum(seconds_a_frame(*stage, deep=deep) for stage in model.stages(width, height))
    if isinstance(model, Predicting):
        return model.seconds(width, height)
    side = model.trial_side if isinstance(model, TrialSize) else TRIAL_SIDE
    side_x, side_y = (min(side or length, length) for length in (width, height))
    planar = isinstance(model, Planar) and model.planar
    size = (side_y * 3 // 2, side_x) if planar else (side_y, side_x, 3)
    # The two trial frames differ in every pixel, because unchanged areas are not upscaled again.
    trials = [Frame(np.full(size, value, np.uint16 if deep else np.uint8), 0, 1) for value in (0, 255)]
    session = model.open(side_x, side_y)
    seconds = _measure_frame_seconds(session, trials)
    session.close()
    return seconds * width * height / (side_x * side_y)


def _measure_frame_seconds(session: Session, trials: Sequence[Frame]) -> float:
    """Measure the seconds per frame in the second of two rounds. A pipelined session processes several frames per round."""
    frames, alternating = 4 if isinstance(session, Pipelined) else 1, cycle(trials)
    for _ in range(2):
        start = time.perf_counter()
        for trial in islice(alternating, frames):
            list(session.push(trial))
        list(session.flush())
        seconds = (time.perf_counter() - start) / frames
    return seconds


def _spool_bytes(job: Job, shape: Shape, frames: int) -> dict[str, int]:
    """Return the disk space in bytes that all models of a chain use at the same time, by folder."""
    spools: dict[str, int] = defaultdict(int)
    for model, width, height in _stages(job, shape):
        if isinstance(model, Spooling) and model.spool and (size := model.spooled(width, height, frames)):
            spools[str(model.spool)] += size
    return dict(spools)
