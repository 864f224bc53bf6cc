"""Frames in, larger frames out: reading, inference, the segment log and the joined file. Knows nothing of jobs or networks."""

from .errors import UpresError
from .pipeline import Job, Progress
from .select import load
from .upscale import stream, upscale
from .writer import Encoder

__all__ = ["Encoder", "Job", "Progress", "UpresError", "load", "stream", "upscale"]
