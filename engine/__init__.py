"""Frames in, upscaled frames out: reading, inference, the segment log and the joined file. Knows nothing of the service.

The public names are imported when they are first used, so that a client of the service needs neither PyAV nor a runtime.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upres.engine.core.errors import UpresError
    from upres.engine.encode.options import Encoder
    from upres.engine.models.registry import load
    from upres.engine.pipeline.options import Job
    from upres.engine.pipeline.progress import Progress

    from .api import stream, upscale
    from .images.still import upscale_image

__all__ = ["Encoder", "Job", "Progress", "UpresError", "load", "stream", "upscale", "upscale_image"]

# ONNX Runtime and OpenVINO send their makers what is run, with an identity that they keep in the user's home, unless they are
# kept from it before they are imported. A program that imported them itself, or set ORT's variable, has decided otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then takes its own stub

MODULES = {
    "Encoder": "encode.options",
    "Job": "pipeline.options",
    "Progress": "pipeline.progress",
    "UpresError": "core.errors",
    "load": "models.registry",
    "stream": "api",
    "upscale": "api",
    "upscale_image": "images.still",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """Import a public name."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
