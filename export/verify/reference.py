"""The networks run by something other than the graph under test: ncnn on its own files, or PyTorch or numpy on the tensors.

Each reference takes float32 planes, (3, height, width), 0 to 1, and gives those of the larger picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError
from upres.export.families.architecture import Architecture
from upres.export.families.forward import Forward, Planes, convolution
from upres.export.weights.read import Weights

OPTIONS_OFF = (
    "vulkan_compute",
    "winograd_convolution",
    "fp16_packed",
    "fp16_storage",
    "fp16_arithmetic",
    "bf16_storage",
)
"""What ncnn must not use: float32 throughout, and no Winograd, which rounds more coarsely."""


@dataclass(frozen=True, slots=True)
class Reference:
    """name: what runs it, for the manifest."""

    name: str
    run: Callable[[Planes], Planes]


def reference(weights: Weights, architecture: Architecture) -> Reference:
    """The most independent one at hand: ncnn for ncnn's files, else PyTorch, else numpy."""
    if weights.param is not None:
        try:
            return _ncnn(weights.param)
        except ImportError:
            pass
    name, convolve = convolution()
    tensors = {name: tensor.astype(np.float32) for name, tensor in weights.tensors.items()}
    return Reference(name, Forward(architecture, tensors, convolve).run)


def _ncnn(param: Path) -> Reference:
    import ncnn

    net = ncnn.Net()
    for option in OPTIONS_OFF:
        setattr(net.opt, f"use_{option}", False)
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise ModelError(f"ncnn cannot load {param}")

    def run(planes: Planes) -> Planes:
        extractor = net.create_extractor()
        planes = np.ascontiguousarray(planes)
        source = ncnn.Mat(planes)  # It does not copy: planes must live as long.
        extractor.input("data", source)
        status, result = extractor.extract("output")
        if status:
            raise ModelError(f"ncnn cannot run {param}: status {status}")
        return np.array(result)

    return Reference(f"ncnn {ncnn.__version__} fp32", run)
