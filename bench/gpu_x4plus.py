"""realesrgan-x4plus with random weights, on upres and on PyTorch, for bench/gpu.py."""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu

from upres.engine.core.errors import ModelError
from upres.engine.runtime import registry
from upres.export.families.rrdb import RESIDUAL, RRDB, SLOPE

if TYPE_CHECKING:
    from gpu import Options

FULL, TINY = RRDB(64, 32, 23, 4), RRDB(8, 4, 1, 4)
SECONDS = 5.0


def x4plus(options: "Options") -> dict[str, Any]:
    """Measure frames per second of both on the same frame, and the ratio, whose goal is 0.9."""
    network, size = (TINY, (24, 16)) if options.tiny else (FULL, (640, 360))
    tensors = _random(network)
    result: dict[str, Any] = {"size": size, "upres": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x4plus.onnx"
        path.write_bytes(network.write(tensors, 4, "x4plus"))
        result["graph_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        feed = {"frame": np.random.default_rng(0).integers(0, 256, (1, size[1], size[0], 3), np.uint8)}
        for runtime in [registry.choose()] if options.tiny else registry.every():
            if runtime.device != ("cpu" if options.tiny else options.device) or runtime.unavailable() is not None:
                continue
            for precision in runtime.precisions():
                try:
                    graph = runtime.load(path, precision)
                    result["upres"][f"{runtime.name} {precision}"] = _fps(lambda g=graph: g.run(feed), options)
                except ModelError as error:
                    result["upres"][f"{runtime.name} {precision}"] = str(error)
                options.keep(result)
    result["pytorch"] = _pytorch(network, tensors, feed["frame"], options)
    speeds = [fps for fps in result["upres"].values() if isinstance(fps, float)]
    result["ratio"] = max(speeds, default=0.0) / result["pytorch"]
    return result


def _pytorch(network: RRDB, tensors: dict[str, np.ndarray], frame: np.ndarray, options: "Options") -> float:
    kind, device = (torch.float32, "cpu") if options.tiny else (torch.float16, "cuda")
    weights = {}
    for name, value in tensors.items():
        weight = torch.from_numpy(value).to(device, kind)
        weights[name] = weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
    run: Any = lambda x: _forward(network, weights, x)  # noqa: E731 - the function to compile
    if not options.tiny:
        run = torch.compile(run)
    planes = (
        torch.from_numpy(frame).to(device).permute(0, 3, 1, 2).to(kind).contiguous(memory_format=torch.channels_last)
    )

    def whole() -> None:
        run(planes)
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        return _fps(whole, options)


def _forward(network: RRDB, w: dict[str, Tensor], planes: Tensor) -> Tensor:
    def conv(x: Tensor, name: str) -> Tensor:
        return conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    def dense(x: Tensor, name: str) -> Tensor:
        seen = [x]
        for index in range(1, 5):
            seen.append(leaky_relu(conv(torch.cat(seen, 1), f"{name}.conv{index}"), SLOPE))
        return x + RESIDUAL * conv(torch.cat(seen, 1), f"{name}.conv5")

    x = first = conv(planes / 255, "conv_first")
    for block in range(network.blocks):
        before = x
        for index in (1, 2, 3):
            x = dense(x, f"body.{block}.rdb{index}")
        x = before + RESIDUAL * x
    x = first + conv(x, "conv_body")
    for name in ("conv_up1", "conv_up2"):
        x = leaky_relu(conv(interpolate(x, scale_factor=2, mode="nearest"), name), SLOPE)
    return conv(leaky_relu(conv(x, "conv_hr"), SLOPE), "conv_last").clamp(0, 1).mul(255).round().to(torch.uint8)


def _random(network: RRDB) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
        for name, shape in network.shapes().items()
    }


def _fps(work: Any, options: "Options") -> float:  # noqa: ANN401
    for _ in range(3):
        work()
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < (0.02 if options.tiny else SECONDS):
        work()
        done += 1
    return done / (time.perf_counter() - start)
