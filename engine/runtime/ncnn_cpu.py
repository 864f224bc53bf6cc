"""ncnn on a CPU, for networks on frames: its Winograd convolutions need fewer multiplications than other float32 runtimes."""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from upres.engine.core.errors import ModelError

from .base import DeviceKind, Tensor, cpus
from .ncnn_layers import convert

ROUNDING = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage")
OFF = (*ROUNDING, "sgemm_convolution")
"""Options to disable: reduced precision, and matrix products for 5x5 convolutions, which use four times the memory."""
WAITING = "OMP_WAIT_POLICY"


class Ncnn:
    """ncnn's CPU device, in float32."""

    name = "ncnn"
    device: DeviceKind = "cpu"
    preference = 0

    def unavailable(self) -> str | None:
        """Return why graphs cannot run on this machine, and what to do about it."""
        try:
            _ncnn()
        except ImportError:
            return "it is not installed; get it with: pip install ncnn"
        return None

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that this machine supports, fastest first."""
        return ("fp32",)

    def load(self, path: Path, precision: str) -> "NcnnGraph":
        """Load a graph. Raises ModelError unless it converts a frame to a frame."""
        return NcnnGraph(path, cpus())


class NcnnGraph:
    """A graph from a frame to a frame on ncnn, in float32.

    A tile's result differs from the whole frame's in the last bits, because Winograd's blocks are aligned differently.
    """

    memory_factor = 1.3

    def __init__(self, path: Path, threads: int, *, vulkan: bool = False) -> None:
        """Convert and load a graph. Raises ModelError if either fails. vulkan: run on the GPU that ncnn prefers."""
        network, ncnn = convert(path), _ncnn()
        self._ends = network.frame, network.upscaled
        self._net, self._mat = ncnn.Net(), ncnn.Mat
        self._net.opt.num_threads = threads
        self._net.opt.use_vulkan_compute = vulkan
        for option in OFF:
            setattr(self._net.opt, f"use_{option}", False)
        with tempfile.TemporaryDirectory(prefix="upres-ncnn-") as folder:
            weights = Path(folder) / "weights.bin"
            weights.write_bytes(network.weights)
            if self._net.load_param_mem(network.param) or self._net.load_model(str(weights)):
                raise ModelError(f"ncnn cannot load {path}; its messages above explain why")
        device = ncnn.get_gpu_info(ncnn.get_default_gpu_index()).device_name() if vulkan else "CPU"
        self.report = f"ncnn {ncnn.__version__} {device} fp32"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once from `frame` to `upscaled`, which the caller owns. Raises ModelError if ncnn fails."""
        frame = np.ascontiguousarray(feeds["frame"])
        _, height, width, _ = frame.shape
        extractor = self._net.create_extractor()
        if frame.dtype == np.uint8:
            planes = self._mat.from_pixels(frame, self._mat.PixelType.PIXEL_RGB, width, height)
        else:
            reals = frame[0].transpose(2, 0, 1).astype(np.float32, order="C")  # keep a reference: ncnn may share it
            planes = self._mat(reals).clone()
        extractor.input(self._ends[0], planes)
        status, levels = extractor.extract(self._ends[1])
        if status:
            raise ModelError(f"ncnn cannot run a frame of {width}x{height}: status {status}")
        return {"upscaled": np.ascontiguousarray(np.asarray(levels).astype(frame.dtype).transpose(1, 2, 0))[None]}


def _ncnn() -> ModuleType:
    """Import ncnn so that its threads sleep while they wait, unless the environment specifies otherwise.

    By default they spin, and with a decoder or an encoder on the same CPUs a frame would take 6 times as long. ncnn's OpenMP reads
    the variable once while it is loaded; afterwards this process's environment is restored.
    """
    is_decided = WAITING in os.environ or "ncnn" in sys.modules
    if not is_decided:
        os.environ[WAITING] = "passive"
    try:
        import ncnn
    finally:
        if not is_decided:
            del os.environ[WAITING]
    loaded: ModuleType = ncnn
    return loaded
