"""Reference implementations, independent of the graph under test: ncnn on its own files, PyTorch or NumPy on the tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError
from upres.export.families.base import Family
from upres.export.families.layers import Layers, Planes, convolution
from upres.export.weights.tensors import Tensors

OPTIONS_OFF = (
    "vulkan_compute",
    "winograd_convolution",
    "fp16_packed",
    "fp16_storage",
    "fp16_arithmetic",
    "bf16_storage",
)
"""Options of ncnn to disable, so that it computes in float32 throughout and without Winograd, which rounds more coarsely."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An independent implementation of one network.

    name: the software, for the manifest. run: converts float32 planes, (3, height, width), 0 to 1, to the upscaled ones.
    """

    name: str
    run: Callable[[Planes], Planes]


def reference(network: Family, tensors: Tensors, param: Path | None = None) -> Reference:
    """Return the most independent reference available: ncnn for ncnn's files, else PyTorch, else NumPy.

    param: ncnn's file, if the tensors were read from one.
    """
    if param is not None:
        try:
            return _ncnn(param)
        except ImportError:
            pass
    name, convolve = convolution()
    layers = Layers({key: tensor.astype(np.float32) for key, tensor in tensors.items()}, convolve)
    return Reference(name, lambda planes: network.forward(planes, layers))


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
        source = ncnn.Mat(planes)  # does not copy, so planes must outlive it
        extractor.input("data", source)
        status, result = extractor.extract("output")
        if status:
            raise ModelError(f"ncnn cannot run {param}: status {status}")
        return np.array(result)

    return Reference(f"ncnn {ncnn.__version__} fp32", run)
