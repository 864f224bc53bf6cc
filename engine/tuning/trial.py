"""One choice of runtime, precision and tile size, tried in a process of its own: it may hang, crash or take all memory."""

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

SIDE = 128  # pixels a side of the part that is compared with the reference
SHORTEST = 64  # pixels a side of the part that is timed where the whole takes too long
LOAD_SECONDS = 60.0  # for a graph to be loaded and run once, and a GPU's kernels to be chosen
WARM = 2  # frames that do not count
REFERENCE = Choice("onnxruntime", "fp32")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a network on frames of width x height. seconds: that measuring may take, loading apart.

    reference: a file that the reference's result is in; it is written there where it is the reference that is tried.
    """

    network: str
    choice: Choice
    width: int
    height: int
    seconds: float
    reference: str


def run(trial: Trial) -> Row:
    """Try a choice in a process of its own; ModelError with the reason where it cannot run or takes too long."""
    found = child.ask(__name__, json.dumps(asdict(trial)), seconds=LOAD_SECONDS + 2 * trial.seconds)
    if problem := found.get("problem"):
        raise ModelError(problem)
    return Row(**{**found, "choice": trial.choice})


def measure(trial: Trial) -> Row:
    """Load, compare and time, in this process; ModelError where the choice cannot run."""
    device = runtimes.load(trial.choice.runtime).device
    before = device_memory.free() if device == "cuda" else psutil.Process().memory_info().rss
    model = per_frame.load_choice(trial.network, trial.choice)
    psnr = _compare(model, trial)
    width, height = _part(model, trial)
    session = model.open(width, height)
    if isinstance(session, Noting) and session.notes:  # what runs is not what was chosen
        raise ModelError(session.notes[0])
    fps, latency = _time(session, picture(width, height), trial.seconds)
    share = width * height / (trial.width * trial.height)
    after = device_memory.free() if device == "cuda" else peak_memory()
    taken = before - after if device == "cuda" else after - before
    return Row(trial.choice, model.report, fps * share, latency / share, max(0, taken), psnr, estimated=share < 1)


def _compare(model: per_frame.PerFrameModel, trial: Trial) -> float | None:
    """Take the PSNR to the reference's result on a small frame, in dB; None where nothing differs.

    A GPU, whose engines take one size, gets it in the corner of a whole frame; what the rest of that shows in is left out.
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
    """Choose as much of the frame as can be run some times within the seconds; all of it, where that is possible."""
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
    """Take frames a second with as many frames under way as the session takes, and the median seconds of a frame alone."""
    # Nothing stays as it was from one frame to the next: what does not change is not upscaled again.
    frames, alone = cycle(Frame(np.ascontiguousarray(each), 0, 1) for each in (pixels, 255 - pixels)), []
    for _ in range(WARM + 1):
        start = time.perf_counter()
        _count(session.push(next(frames)), session.flush())
        alone.append(time.perf_counter() - start)
    start, done = time.perf_counter(), 0
    end = start + seconds - sum(alone)
    while True:
        done += _count(session.push(next(frames)))
        if time.perf_counter() >= end:
            break
    done += _count(session.flush())
    fps = done / (time.perf_counter() - start)
    session.close()
    return fps, statistics.median(alone[1:])


def _count(*results: Any) -> int:  # noqa: ANN401
    return sum(1 for frames in results for _ in frames)


def main() -> None:
    """Try what the argument says, a Trial as JSON, and print the row, or {"problem": the reason}, as a line of JSON."""
    wanted = json.loads(sys.argv[1])
    trial = Trial(**{**wanted, "choice": Choice(**wanted["choice"])})
    try:
        found: dict[str, Any] = asdict(measure(trial))
    except ModelError as error:
        found = {"problem": str(error)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
