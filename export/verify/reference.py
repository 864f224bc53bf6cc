"""Networks run by something other than the graph under test: ncnn on its own files, or PyTorch or numpy on the tensors."""

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
"""What ncnn must not use: float32 throughout, and no Winograd, which rounds more coarsely."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An independent implementation of one network.

    name: what runs it, for the manifest. run: float32 planes, (3, height, width), 0 to 1, to those of the upscaled frame.
    """

    name: str
    run: Callable[[Planes], Planes]


def reference(network: Family, tensors: Tensors, param: Path | None = None) -> Reference:
    """Choose the most independent one available: ncnn for ncnn's files, else PyTorch, else numpy.

    param: ncnn's file, where the tensors come from one.
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
        source = ncnn.Mat(planes)  # It does not copy: planes must outlive it.
        extractor.input("data", source)
        status, result = extractor.extract("output")
        if status:
            raise ModelError(f"ncnn cannot run {param}: status {status}")
        return np.array(result)

    return Reference(f"ncnn {ncnn.__version__} fp32", run)
