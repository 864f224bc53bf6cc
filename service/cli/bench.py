"""`upres bench`: the speed of an upscale on this machine, compared with the arithmetic peak of its CPUs, and its loss in PSNR."""

import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from upres.engine.api import upscale
from upres.engine.color.convert import ToRGB
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Frame, Pixels
from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader
from upres.engine.encode import options, video
from upres.engine.machine.host import cpu_name, peak_memory
from upres.engine.models import manifest, per_frame, registry
from upres.engine.models.manifest import QUALITIES
from upres.engine.pipeline.options import Job
from upres.engine.runtime.base import cpus
from upres.engine.runtime.openvino_cpu import core, has_bfloat16

WARM_FRAMES = 2
PSNR_FRAMES = 3
CASE_SECONDS = 600
ROUNDS_SECONDS = 45  # after this time, no further round of a case is started


@dataclass(frozen=True, slots=True)
class Case:
    """A clip, network, quality and number of frames to measure."""

    clip: str
    network: str
    quality: str
    frames: int


def bench(
    clips: Annotated[list[str], typer.Argument(metavar="CLIP …", help="Videos to measure on.")],
    model: Annotated[list[str] | None, typer.Option(help="Models; default: x4 and x2.")] = None,
    seconds: Annotated[
        float, typer.Option(help="Approximate inference time of each case in a round; determines the number of frames.")
    ] = 5.0,
    rounds: Annotated[
        int, typer.Option(min=1, help="Measurements of each case, within about a minute; the median is reported.")
    ] = 3,
    out: Annotated[Path | None, typer.Option(help="Write the results to this file as JSON.")] = None,
) -> None:
    """Measure end-to-end and raw speed, CPU time of each stage, overlap, memory, share of the arithmetic peak, and PSNR."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    peaks = {name: gemm_peak(name) for name in ("f32", *(["bf16"] if has_bfloat16() else []))}
    typer.echo(
        f"{cpu_name()}, {cpus()} CPUs; measured matrix peak: "
        + ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in peaks.items())
    )
    results = []
    for clip in clips:
        for name in model or ["RealESRGAN_Vid_x4", "RealESRGAN_Vid_x2"]:
            network = registry.choose(name).network
            frames = frames_for(clip, network, seconds)
            for quality in QUALITIES:
                case = Case(clip, network, quality, frames)
                results.append(combined(list(measure_rounds(case, peaks, rounds))))
                typer.echo(format_line(results[-1]))
    if out is not None:
        machine = {"cpu": cpu_name(), "cpus": cpus(), "peak_flops": peaks, "python": platform.python_version()}
        versions = {name: version(name) for name in ("upres", "av", "onnxruntime", "openvino", "numpy")}
        document = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "versions": versions}
        out.write_text(json.dumps({**document, "results": results}, indent=2) + "\n")
        typer.echo(f"written to {out}")


def format_line(result: dict[str, Any]) -> str:
    """Format a result as one line for people."""
    share = "no known share" if result["share_of_peak"] is None else f"{result['share_of_peak']:.0%}"
    psnr = "exact" if result["psnr_to_exact_db"] is None else f"{result['psnr_to_exact_db']:.1f} dB"
    return (
        f"{Path(result['clip']).name} {result['width']}x{result['height']} {result['network']} {result['runs_on']}: "
        f"{result['fps']:.2f} fps end to end, {result['inference_fps']:.2f} raw; wall/(CPU sum/cores) {result['overlap']:.2f}; "
        f"{share} of peak; {result['peak_memory_mb']:.0f} MB; {psnr}"
    )


def frames_for(clip: str, network: str, seconds: float) -> int:
    """Return how many frames inference processes in about the given time, estimated from one frame: between 8 and 240."""
    model = per_frame.load(network)
    frames = decode(clip, 1 + WARM_FRAMES)
    if len(frames) <= WARM_FRAMES:
        raise SourceError(
            f"{clip}: {len(frames)} frames are too few to measure; choose a clip with at least {1 + WARM_FRAMES}"
        )
    session = model.open(frames[0].width, frames[0].height)
    list(session.push(frames[0]))
    # Every pixel differs from the previous frame: unchanged areas would not be upscaled again.
    inverted = replace(frames[0], pixels=255 - frames[0].pixels)
    start = time.perf_counter()
    list(session.push(inverted))
    return int(min(240, max(8, seconds / (time.perf_counter() - start))))


def measure_rounds(case: Case, peaks: dict[str, float], rounds: int) -> Iterator[dict[str, Any]]:
    """Measure a case in several rounds, at least one, until ROUNDS_SECONDS have passed."""
    end = time.monotonic() + ROUNDS_SECONDS
    yield measure(case, peaks)
    for _ in range(rounds - 1):
        if time.monotonic() > end:
            return
        yield measure(case, peaks)


def combined(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine the rounds of a case into one result: numbers are medians; the overlap is also listed for every round."""
    numbers = {
        name: statistics.median(each[name] for each in rounds)
        for name, value in rounds[0].items()
        if isinstance(value, float)
    }
    return {**rounds[0], **numbers, "overlap_rounds": [each["overlap"] for each in rounds]}


def measure(case: Case, peaks: dict[str, float]) -> dict[str, Any]:
    """Measure a case in one round: the stages and the whole run in separate processes, so that they share no memory or caches."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        stages = pool.apply_async(measure_stages, (case,)).get(CASE_SECONDS)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        whole = pool.apply_async(measure_whole, (case,)).get(CASE_SECONDS)
    _, facts = manifest.find(case.network)
    flops = facts.flops_per_pixel * stages["width"] * stages["height"]
    peak = peaks["bf16" if "bf16" in stages["runs_on"] else "f32"]
    cpu_seconds = stages["decode_cpu_s"] + stages["inference_cpu_s"] + stages["encode_cpu_s"]
    return {
        **asdict(case),
        **stages,
        **whole,
        "overlap": whole["wall_s_a_frame"] / (cpu_seconds / cpus()),
        "share_of_peak": None if "int8" in stages["runs_on"] else flops * stages["inference_fps"] / peak,
    }


def measure_stages(case: Case) -> dict[str, Any]:
    """Measure decoding, inference and encoding separately in CPU seconds per frame, raw inference speed, and PSNR to exact."""
    model = per_frame.load(case.network, quality=case.quality)
    start = time.process_time()
    frames = decode(case.clip, case.frames)
    decoding = (time.process_time() - start) / len(frames)
    session = model.open(frames[0].width, frames[0].height)
    results = [next(iter(session.push(frame))) for frame in frames[:WARM_FRAMES]]
    start, wall = time.process_time(), time.perf_counter()
    for frame in frames:
        results = [*results[-1:], next(iter(session.push(frame)))]
    inference, fps = (time.process_time() - start) / len(frames), len(frames) / (time.perf_counter() - wall)
    return {
        "width": frames[0].width,
        "height": frames[0].height,
        "frames": len(frames),
        "runs_on": model.report,
        "inference_fps": fps,
        "decode_cpu_s": decoding,
        "inference_cpu_s": inference,
        "encode_cpu_s": measure_encoding(case, frames, model),
        "psnr_to_exact_db": compare_to_exact(case, frames),
    }


def measure_encoding(case: Case, frames: list[Frame], model: per_frame.PerFrameModel) -> float:
    """Measure encoding the real results, in CPU seconds per frame; they are recomputed one by one to keep memory small."""
    with Reader(case.clip) as reader:
        shape = reader.info.shape
    output_shape = type(shape)(
        shape.width * model.scale,
        shape.height * model.scale,
        shape.time_base,
        shape.rate,
        shape.sample_aspect,
        shape.color,
    )
    encoding = options.resolve(options.Encoder(), output_shape)
    session = model.open(shape.width, shape.height)
    inferring = 0.0

    def results() -> Iterator[Frame]:
        nonlocal inferring
        for frame in frames:
            start = time.process_time()
            result = next(iter(session.push(frame)))
            inferring += time.process_time() - start
            yield result

    start = time.process_time()
    for _ in video.pieces(results(), encoding, output_shape, at_shots=False):
        pass
    return (time.process_time() - start - inferring) / len(frames)


def measure_whole(case: Case) -> dict[str, Any]:
    """Measure the wall time per frame of the whole upscale, without start-up and the first WARM_FRAMES frames, and peak memory."""
    model = per_frame.load(case.network, quality=case.quality)
    ticks: list[float] = []
    with Reader(case.clip) as reader:
        duration = Fraction(case.frames) / reader.info.shape.rate
    with tempfile.TemporaryDirectory(prefix="upres-bench-") as folder:
        job = Job((model,), cut=Cut(duration=duration))
        progress = upscale(
            case.clip,
            Path(folder) / "out.mp4",
            job,
            tick=lambda: ticks.append(time.perf_counter()),
        )
    wall = (ticks[-1] - ticks[WARM_FRAMES - 1]) / (len(ticks) - WARM_FRAMES)
    return {
        "fps": 1 / wall,
        "wall_s_a_frame": wall,
        "frames_out": progress.frames_out,
        "peak_memory_mb": peak_memory() / 2**20,
    }


def decode(clip: str, count: int) -> list[Frame]:
    """Decode the first frames of a clip to RGB."""
    with Reader(clip) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        return [Frame(to_rgb(frame), frame.pts or 0, frame.duration) for frame in islice(reader.frames(), count)]


def compare_to_exact(case: Case, frames: list[Frame]) -> float | None:
    """Compute the PSNR of a few results to those of exact quality, in dB; None if they are equal."""
    if case.quality == "exact":
        return None
    pair = [
        per_frame.load(case.network, quality=quality).open(frames[0].width, frames[0].height)
        for quality in ("exact", case.quality)
    ]
    sample = frames[:: max(1, len(frames) // PSNR_FRAMES)][:PSNR_FRAMES]
    errors = [mean_square(*(next(iter(session.push(frame))).pixels for session in pair)) for frame in sample]
    mean = statistics.fmean(errors)
    return 10 * float(np.log10(255**2 / mean)) if mean else None


def mean_square(a: Pixels, b: Pixels) -> float:
    """Compute the mean squared difference of two pictures, in 8-bit levels."""
    return float(np.mean(np.square(a.astype(np.float32) - b)))


def gemm_peak(precision: str, side: int = 1536, runs: int = 7) -> float:
    """Measure the floating-point operations per second of a large matrix product on all CPUs: the arithmetic peak."""
    import openvino
    from openvino import opset13

    a = opset13.parameter([side, side], np.float32)
    weights = opset13.constant(np.random.default_rng(0).random((side, side), np.float32))
    graph = openvino.Model([opset13.matmul(a, weights, False, False)], [a])
    compiled = core().compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": cpus()}
    )
    request, ones = compiled.create_infer_request(), np.ones((side, side), np.float32)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        request.infer([ones])
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)
