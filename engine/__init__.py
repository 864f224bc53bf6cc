"""The engine: reads a source, upscales its frames, writes the segment log and the final file. Independent of the service.

The public names are imported on first use, so that a client of the service needs neither PyAV nor an inference runtime.
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

# ONNX Runtime and OpenVINO send telemetry to their vendors, with an identifier stored in the user's home folder, unless it is
# disabled before they are imported. A program that has imported them already, or has set ORT's variable, keeps its own choice.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes OpenVINO use its own stub

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
