"""`fake_gpu:load` is the loader of a worker on a machine whose GPU encodes: x264 and x265 do, in its place."""

from types import SimpleNamespace

from fake import load
from fake_nvenc import FakeNvenc

from upres.engine.machine.video_engines import VideoEngine
from upres.service.execution.encoding import gpu_sessions

__all__ = ["load"]

OPEN = VideoEngine("NVENC", ("h264_nvenc", "hevc_nvenc"), None)

FakeNvenc(SimpleNamespace(setattr=setattr))
gpu_sessions.video_engines = lambda: (OPEN, OPEN)  # the worker looks once it has its loader
