"""Trial of one runtime, precision and tile size in a separate process, because it may hang, crash or exhaust memory."""

import json
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Frame, Pixels
from upres.engine.core.model import Noting, Session
from upres.engine.machine import child, device_memory
from upres.engine.machine.host import peak_memory
from upres.engine.models import manifest, per_frame
from upres.engine.models.tuned import Choice, Row
from upres.engine.runtime import registry as runtimes

from .picture import picture

SIDE = 128  # width and height in pixels of the part that is compared with the reference
SHORTEST = 64  # least width and height in pixels of the part that is timed if the whole frame takes too long
LOAD_SECONDS = 60.0  # timeout for loading a graph, its first run and the selection of GPU kernels
WARM = 2  # warm-up frames, which do not count
REFERENCE = Choice("onnxruntime", "fp32")


@dataclass(frozen=True, slots=True)
class Trial:
    """Parameters of a trial: a network on frames of width x height. seconds: time for measuring, excluding loading.

    reference: file with the reference's result; it is written if the reference itself is tried.
    """

    network: str
    choice: Choice
    width: int
    height: int
    seconds: float
    reference: str


def run(trial: Trial) -> Row:
    """Try a choice in a separate process. Raises ModelError with the reason if it cannot run or takes too long."""
    result = child.ask(__name__, json.dumps(asdict(trial)), seconds=LOAD_SECONDS + 2 * trial.seconds)
    if problem := result.get("problem"):
        raise ModelError(problem)
    return Row(**{**result, "choice": trial.choice})


def measure(trial: Trial) -> Row:
    """Load, compare and time a choice in this process. Raises ModelError if it cannot run."""
    device = runtimes.load(trial.choice.runtime).device
    before = device_memory.free() if device == "cuda" else psutil.Process().memory_info().rss
    model = per_frame.load_choice(trial.network, trial.choice)
    psnr = _compare(model, trial)
    width, height = _part(model, trial)
    session = model.open(width, height)
    if isinstance(session, Noting) and session.notes:  # something other than the choice is running
        raise ModelError(session.notes[0])
    fps, latency = _time(session, picture(width, height), trial.seconds)
    share = width * height / (trial.width * trial.height)
    after = device_memory.free() if device == "cuda" else peak_memory()
    used = before - after if device == "cuda" else after - before
    return Row(trial.choice, model.report, fps * share, latency / share, max(0, used), psnr, estimated=share < 1)


def _compare(model: per_frame.PerFrameModel, trial: Trial) -> float | None:
    """Return the PSNR of the result on a small frame against the reference's, in dB; None if they are identical.

    On a GPU, whose engines have a fixed size, the small frame is the corner of a whole one. The border of the result that depends
    on the rest of that frame is left out.
    """
    width, height, file = min(SIDE, trial.width), min(SIDE, trial.height), Path(trial.reference)
    small = picture(width, height)
    if model.trial_side is None:
        whole = np.zeros((trial.height, trial.width, 3), np.uint8)
        whole[:height, :width] = small
        halo, small = manifest.find(trial.network)[1].halo, whole
        width, height = (
            side - halo * (side < all_of) for side, all_of in ((width, trial.width), (height, trial.height))
        )
    result = _once(model, small)[: height * model.scale, : width * model.scale]
    if trial.choice == REFERENCE and not file.exists():
        np.save(file, result)
    difference = np.load(file)[: height * model.scale, : width * model.scale].astype(np.float32) - result
    error = float(np.mean(np.square(difference)))
    return 10 * math.log10(255**2 / error) if error else None


def _part(model: per_frame.PerFrameModel, trial: Trial) -> tuple[int, int]:
    """Return the size of the part of the frame that can be run several times within the time; the whole frame if possible."""
    if model.trial_side is None:
        return trial.width, trial.height
    width, height = min(SIDE, trial.width), min(SIDE, trial.height)
    start = time.perf_counter()
    _once(model, picture(width, height))
    whole = (time.perf_counter() - start) * trial.width * trial.height / (width * height)
    side = math.sqrt(trial.seconds / ((WARM + 1) * whole))
    if side >= 1:
        return trial.width, trial.height
    shortest = min(SHORTEST, width), min(SHORTEST, height)
    return max(shortest[0], int(trial.width * side)), max(shortest[1], int(trial.height * side))


def _once(model: per_frame.PerFrameModel, pixels: Pixels) -> Pixels:
    session = model.open(pixels.shape[1], pixels.shape[0])
    result = next(islice((*session.push(Frame(pixels, 0, 1)), *session.flush()), 1)).pixels
    session.close()
    return result


def _time(session: Session, pixels: Pixels, seconds: float) -> tuple[float, float]:
    """Return the throughput in frames per second with a full pipeline, and the median latency of a single frame in seconds."""
    # Successive frames differ everywhere, because areas that do not change are not upscaled again.
    frames, latencies = cycle(Frame(np.ascontiguousarray(each), 0, 1) for each in (pixels, 255 - pixels)), []
    for _ in range(WARM + 1):
        start = time.perf_counter()
        _count(session.push(next(frames)), session.flush())
        latencies.append(time.perf_counter() - start)
    start, done = time.perf_counter(), 0
    end = start + seconds - sum(latencies)
    while True:
        done += _count(session.push(next(frames)))
        if time.perf_counter() >= end:
            break
    done += _count(session.flush())
    fps = done / (time.perf_counter() - start)
    session.close()
    return fps, statistics.median(latencies[1:])


def _count(*results: Any) -> int:  # noqa: ANN401
    return sum(1 for frames in results for _ in frames)


def main() -> None:
    """Run the trial given as a JSON argument; print its row, or {"problem": reason}, as a line of JSON."""
    arguments = json.loads(sys.argv[1])
    trial = Trial(**{**arguments, "choice": Choice(**arguments["choice"])})
    try:
        result: dict[str, Any] = asdict(measure(trial))
    except ModelError as error:
        result = {"problem": str(error)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
