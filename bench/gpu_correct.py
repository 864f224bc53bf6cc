"""Check that a GPU computes the same as ONNX Runtime on the CPU, and returns all frames in order, for bench/gpu.py."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_networks import COLOR, EXACT, X2, X4, choices, frames, load_choice, name_of, nothing_runs, upscale, upscale_one
from provider import register

from upres.engine.color.convert import FromRGB, ToRGB
from upres.engine.color.planes import ToPlanes
from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Layout, Pixels, planes_of
from upres.engine.models.tuned import Choice

if TYPE_CHECKING:
    from gpu import Options

MIN_PSNR = {"fp32": 85.0, "fp16": 58.0, "bf16": 50.0}  # minimum PSNR to the reference, in dB
MAX_DIFFERENCE = {"fp32": 1, "fp16": 3}  # maximum difference of a value, in levels of 255
MIN_PSNR_ON_PLANES, MAX_DIFFERENCE_ON_PLANES = 55.0, 4  # the network amplifies differences of one level in its input
DISTINCT = 5  # number of different frames that are repeated in the test of their order
SANITIZER_SECONDS = 40


def correct(options: "Options") -> dict[str, Any]:
    """Compare every runtime and precision on both included networks, and check the order of many frames."""
    size, count = ((32, 24), 12) if options.tiny else ((320, 180), 1000)
    results: dict[str, Any] = {}
    for network in (X2, X4):
        sample = frames(3, *size)
        reference = [upscale_one(load_choice(network, EXACT), each) for each in sample]
        for choice in choices(network, options.device):
            results[f"{network}, {name_of(choice)}"] = _compare(network, choice, sample, reference, count)
            results[f"{network}, {name_of(choice)}, planes"] = _compare_on_planes(network, choice, sample[0])
            options.keep({"results": results})
    if not results:
        return nothing_runs(options.device)
    right = all(each.get("right") for each in results.values())
    options.keep({"results": results, "right": right})
    return {"results": results, "right": right, **_run_sanitizer(options)}


def _compare(network: str, choice: Choice, sample: list[Pixels], reference: list[Pixels], count: int) -> dict[str, Any]:
    try:
        model = load_choice(network, choice)
        results = [frame.pixels for frame in upscale(model, sample)]
        misplaced = _misplaced(network, choice, count)
    except ModelError as error:
        return {"right": False, "problem": str(error)}
    differences = [np.abs(a.astype(int) - b) for a, b in zip(results, reference, strict=True)]
    largest, error = max(int(each.max()) for each in differences), float(np.mean([np.mean(d**2) for d in differences]))
    psnr = 10 * math.log10(255**2 / error) if error else None
    near = psnr is None or psnr >= MIN_PSNR.get(choice.precision, MIN_PSNR["bf16"])
    right = near and largest <= MAX_DIFFERENCE.get(choice.precision, 255) and not misplaced
    return {
        "runs_on": model.report, "psnr": psnr, "max_difference": largest, "frames": count, "misplaced": misplaced, "right": right
    }  # fmt: skip


def _compare_on_planes(network: str, choice: Choice, pixels: Pixels) -> dict[str, Any]:
    """Compare a network on planes, whose colors the device converts, with the reference and conversions by swscale."""
    height, width, _ = pixels.shape
    picture = FromRGB(COLOR, "yuv420p")(pixels)
    try:
        model = load_choice(network, choice).on_planes(Layout(COLOR, "center"), width, height)
        if model is None:
            return {"right": False, "problem": "its device cannot convert colors"}
        result = planes_of(upscale_one(model, ToPlanes(COLOR)(picture)))
    except ModelError as error:
        return {"right": False, "problem": str(error)}
    exact = upscale_one(load_choice(network, EXACT), ToRGB(COLOR)(picture))
    expected = planes_of(ToPlanes(COLOR)(FromRGB(COLOR, "yuv420p")(exact)))
    differences = [np.abs(a.astype(int) - b) for a, b in zip(result, expected, strict=True)]
    largest, error = max(int(each.max()) for each in differences), float(np.mean([np.mean(d**2) for d in differences]))
    psnr = 10 * math.log10(255**2 / error) if error else None
    right = largest <= MAX_DIFFERENCE_ON_PLANES and (psnr is None or psnr >= MIN_PSNR_ON_PLANES)
    return {"runs_on": model.report, "psnr": psnr, "max_difference": largest, "right": right}


def _misplaced(network: str, choice: Choice, count: int) -> int:
    """Count the frames that are returned in the wrong position or with the pixels of another frame."""
    model, sources = load_choice(network, choice), frames(DISTINCT, 32, 24)
    singles = [upscale_one(model, each) for each in sources]
    results = upscale(model, [sources[number % DISTINCT] for number in range(count)])
    wrong = sum(
        frame.pts != number or int(np.abs(frame.pixels.astype(int) - singles[number % DISTINCT]).max()) > 1
        for number, frame in enumerate(results)
    )
    return wrong + abs(count - len(results))


def _run_sanitizer(options: "Options") -> dict[str, Any]:
    """Run compute-sanitizer on a part of this check, if it is installed."""
    program = shutil.which("compute-sanitizer")
    if options.tiny or program is None:
        return {"sanitizer": "no GPU" if options.tiny else "compute-sanitizer is not installed"}
    command = [program, "--error-exitcode", "9", sys.executable, str(Path(__file__)), options.device]
    command += [options.register] if options.register else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SANITIZER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"sanitizer": f"not finished within {SANITIZER_SECONDS} s"}
    return {"sanitizer": "clean" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]}


if __name__ == "__main__":  # run by compute-sanitizer
    if sys.argv[2:]:
        register(Path(sys.argv[2]))
    for fastest in choices(X2, sys.argv[1]):
        sys.exit(_misplaced(X2, fastest, 2 * DISTINCT))
    sys.exit(f"no runtime runs on {sys.argv[1]} here, so nothing was checked")
