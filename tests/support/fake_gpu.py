"""`fake_gpu:load` loads models as a worker does on a machine with NVENC, for which x264 and x265 stand in."""

from types import SimpleNamespace

from fake import load
from fake_nvenc import FakeNvenc

from upres.engine.machine.video_engines import VideoEngine
from upres.service.execution.encoding import gpu_sessions

__all__ = ["load"]

OPEN = VideoEngine("NVENC", ("h264_nvenc", "hevc_nvenc"), None)

FakeNvenc(SimpleNamespace(setattr=setattr))
gpu_sessions.video_engines = lambda: (OPEN, OPEN)  # the worker queries this after it has imported its loader
