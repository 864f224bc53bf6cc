"""Networks with few channels and random weights, and writers for their file formats."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from upres.engine.models import manifest
from upres.engine.models.manifest import Manifest
from upres.export.families.base import Family
from upres.export.families.rrdb import RRDB
from upres.export.families.srvgg import SRVGG
from upres.export.graphs.analysis import analyze
from upres.export.weights.tensors import Tensors

FP16_TAG = 0x01306B47
SMALL = SRVGG(features=4, convs=2, scale=4)


def tensors(net: Family, seed: int = 0, dtype: type = np.float32) -> Tensors:
    """Return random weights, scaled so that frames stay in range and every pixel matters."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in net.shapes().items():
        spread = 0.3 if len(shape) == 1 else 1 / np.sqrt(np.prod(shape[1:]))
        weights[name] = (rng.standard_normal(shape) * spread).astype(dtype if len(shape) > 1 else np.float32)
    return weights


def near_sighted(folder: Path) -> tuple[Path, Manifest]:
    """Write a network for x2 whose halo is so small that even small frames have several tiles; returns its graph and manifest."""
    net, path = SRVGG(features=4, convs=7, scale=2), folder / "near_sighted.onnx"
    path.write_bytes(net.write(tensors(net), 2, path.stem))
    return path, replace(manifest.find("realesr-live-x2")[1], halo=analyze(path.read_bytes()).halo, multiple=1)


def frame(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_srvgg(folder: Path, net: SRVGG, weights: Tensors, name: str = "small", tail: tuple[str, ...] = ()) -> Path:
    """Write an SRVGGNetCompact as ncnn's `.param` and `.bin`. tail: lines after the network, starting from the blob `sum`."""
    lines, data = ["Input in 0 1 data", "Split split 1 2 data data_0 data_1"], []
    blob = "data_0"
    for index in range(2 * net.convs + 3):
        weight = weights[f"body.{index}.weight"]
        layer = f"{index}"
        if weight.ndim == 1:
            lines.append(f"PReLU {layer} 1 1 {blob} b{index} 0={weight.size}")
            data.append(weight.astype("<f4").tobytes())
        else:
            lines.append(f"Convolution {layer} 1 1 {blob} b{index} 0={len(weight)} 1=3 4=1 5=1 6={weight.size}")
            data += [tagged(weight), weights[f"body.{index}.bias"].astype("<f4").tobytes()]
        blob = f"b{index}"
    lines.append(f"PixelShuffle shuffle 1 1 {blob} shuffled 0={net.scale}")
    lines.append(f"Interp nearest 1 1 data_1 nearest 0=1 1={net.scale} 2={net.scale}")
    lines += [f"BinaryOp sum 2 1 shuffled nearest {'sum' if tail else 'output'}", *tail]
    param = folder / f"{name}.param"
    param.write_text(f"7767517\n{len(lines)} 99\n" + "\n".join(lines) + "\n")
    param.with_suffix(".bin").write_bytes(b"".join(data))
    return param


def tagged(weight: np.ndarray) -> bytes:
    """Return a block of weights as ncnn stores it: float16 padded to 4 bytes, or float32."""
    if weight.dtype == np.float16:
        block = np.uint32(FP16_TAG).tobytes() + weight.tobytes()
        return block + b"\0" * (-len(block) % 4)
    return np.uint32(0).tobytes() + weight.astype("<f4").tobytes()


__all__ = ["RRDB", "SMALL", "SRVGG", "frame", "tagged", "tensors", "write_srvgg"]
