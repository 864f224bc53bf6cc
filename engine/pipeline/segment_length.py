"""Length of segments: short enough that an interruption costs little work. Chosen before the start and recorded in the log."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from upres.engine.segments.folder import FolderLog

from .estimate import Prediction
from .options import Job
from .target import log_folder

WORK_SECONDS = 15.0  # predicted time to make one segment, at most: an interruption loses the incomplete segment
SHORTEST_SECONDS = 0.25  # of video. Files are 11 % larger with segments this short than with 2 seconds; 2 % with 0.5


def cut_by_work(job: Job, prediction: Prediction, rate: Fraction, resumes: Path | None = None) -> Job:
    """Return a job whose segments take at most about 15 s of predicted work and last at most its `segment_seconds`.

    rate: of the models' input frames. resumes: the target whose log is resumed; its segment length is kept.
    A model that remembers earlier frames restarts its shot after an interruption, so its segment length is not changed.
    Raises LogError if that log is damaged.
    """
    recorded = _segment_seconds(resumes) if resumes else None
    if recorded is not None:
        return _with_segments(job, recorded)
    if any(model.warmup != 0 for model in job.models):
        return job
    seconds = max(SHORTEST_SECONDS, int(WORK_SECONDS / max(1e-9, prediction.frame_seconds)) / float(rate))
    return _with_segments(job, round(seconds, 3)) if seconds < job.encoder.segment_seconds else job


def _segment_seconds(target: Path) -> float | None:
    encoder = FolderLog.read_header(log_folder(target)).get("encoder")
    seconds = encoder.get("segment_seconds") if isinstance(encoder, dict) else None
    return seconds if isinstance(seconds, int | float) else None


def _with_segments(job: Job, seconds: float) -> Job:
    return replace(job, encoder=replace(job.encoder, segment_seconds=seconds))
