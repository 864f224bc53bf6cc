"""Frames in, larger frames out: reading, inference, the segment log and the joined file. Knows nothing of jobs or networks."""

from upres.engine.core.errors import UpresError
from upres.engine.encode.options import Encoder
from upres.engine.models.registry import load
from upres.engine.pipeline.run import Job, Progress

from .api import stream, upscale

__all__ = ["Encoder", "Job", "Progress", "UpresError", "load", "stream", "upscale"]
