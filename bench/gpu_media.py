"""End-to-end upscaling on a GPU, with and without an encoder, for bench/gpu.py."""

import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from gpu_networks import X2, choices, frames, load_choice, name_of, nothing_runs

from upres.engine.api import upscale
from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.encode import video
from upres.engine.encode.options import Encoder
from upres.engine.machine.video_engines import video_engines
from upres.engine.models.chain import Chain
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.pipeline.frames import ahead, model_frames
from upres.engine.pipeline.options import Job, fitted, resolved
from upres.engine.pipeline.progress import Progress
from upres.engine.runtime.base import cpus

if TYPE_CHECKING:
    from gpu import Options

WARM = 2  # warm-up frames


def end_to_end(options: "Options") -> dict[str, Any]:
    """Measure a clip without an encoder, with it, and the encoder alone; reports the stage that is the bottleneck."""
    width, height, count = (64, 48, 8) if options.tiny else (1280, 720, 150)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "in.mp4"
        _write(clip, width, height, count)
        for choice in choices(X2, options.device):
            try:
                results[name_of(choice)] = _measure(load_choice(X2, choice), clip, Path(folder) / "out.mp4", count)
            except ModelError as error:
                results[name_of(choice)] = {"problem": str(error)}
            options.keep({"results": results})
    if not results:
        return nothing_runs(options.device)
    return {"source": f"{width}x{height}, {count} frames", "cores": cpus(), "results": results}


def _measure(model: PerFrameModel, clip: Path, target: Path, count: int) -> dict[str, Any]:
    job = Job((model,))
    in_rgb, results = _without_encoder(job, clip, planes=False)
    without, _ = _without_encoder(job, clip, planes=True)
    start = time.process_time()
    with Reader(str(clip)) as reader:
        upscaled, resolved_encoding = resolved(job, reader.info.shape)
    for _ in video.pieces(iter(results), resolved_encoding, upscaled, at_shots=False):
        pass
    encoding_cpu = (time.process_time() - start) / len(results)
    wall, progress = _upscale_file(clip, target, job)
    engine, _ = video_engines()
    gpu_encoder = engine.problem or 1 / _upscale_file(clip, target, replace(job, encoder=Encoder(nvenc=True)))[0]
    return {
        "runs_on": model.report,
        "fps_without_encoder": without,
        "fps_without_encoder_and_colors_on_the_host": in_rgb,
        "fps": 1 / wall,
        "fps_with_nvenc": gpu_encoder,
        "frames": progress.frames_out,
        "encoding_cpu_seconds_a_frame": encoding_cpu,
        "wall_over_encoding_floor": wall / (encoding_cpu / cpus()),
        "bound_by": max(progress.seconds, key=lambda stage: progress.seconds[stage]),
        "seconds_of_stages": progress.seconds,
        "complete": progress.frames_out == count,
    }


def _upscale_file(clip: Path, target: Path, job: Job) -> tuple[float, Progress]:
    """Upscale from file to file; returns the seconds per frame and the progress."""
    progress, ticks = Progress(), []
    upscale(str(clip), target, job, overwrite=True, progress=progress, tick=lambda: ticks.append(time.perf_counter()))
    return (ticks[-1] - ticks[WARM - 1]) / (len(ticks) - WARM), progress


def _without_encoder(job: Job, clip: Path, *, planes: bool) -> tuple[float, list[Frame]]:
    """Decode and upscale as in a run; returns frames per second and the last frames. planes: the device may convert colors."""
    results: list[Frame] = []
    with Reader(str(clip)) as reader:
        job, shape = fitted(job, reader, images=not planes), reader.info.shape
        source = model_frames(reader, job, shape, Progress())
        start = 0.0
        with ahead(source, shape, "read", reader.interrupt) as read:
            for number, frame in enumerate(Chain(job.models).run(read.results()), 1):
                if number == WARM:
                    start = time.perf_counter()
                results = [*results[-31:], frame]
        return (number - WARM) / (time.perf_counter() - start), results


def _write(path: Path, width: int, height: int, count: int) -> None:
    """Write a clip of a moving picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames(count, width, height):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
