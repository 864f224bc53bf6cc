"""`make fuzz`: send mutated sources, protobufs and HTTP requests to a real server, from a seed, within a time limit.

An input fails if the server exits, logs an error or a traceback, reports an internal error, or does not respond. Failing inputs
are minimized and stored. At the end, no files of the jobs may be left, and the server's memory may not have grown.
"""

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import psutil
from mutation import minimize, mutate
from paths import SOAK
from serving import Rpc, ServerProcess
from targets import Log, Target, protobufs, requests, sources

from upres.v2 import upscale_pb2 as pb

TARGETS = {make.__name__: make for make in (sources, protobufs, requests)}
MOST_GROWTH = 256 << 20  # bytes, of the server's main process
MOST_MEMORY = 4 << 30  # bytes, of the server and all its children
MOST_FAULTS = 20  # after which a run ends
SMALL_TRIES = 40  # attempts to minimize an input
SMALL_SECONDS = 120.0  # time limit of minimizing: an input without a response takes a minute each time


class Watch:
    """Monitor of the server under test: its log, its exit and its memory."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._log = Log(server)
        self._process = psutil.Process(server.process.pid)
        self._lock = threading.Lock()
        self.peak = 0

    def fault(self, send: Callable[[bytes], str | None], data: bytes) -> str | None:
        """Send an input and return the fault, if any; with concurrent inputs, another one may have caused a logged fault."""
        answer = send(data)
        with self._lock:
            logged = next(iter([*self._log.faults()]), None)  # reads the whole log, or the next input would be blamed
        if (code := self._server.process.poll()) is not None:
            return f"the server ended with {code}"
        return answer or logged

    def memory(self) -> int:
        """Return the bytes of the server's main process, and record the peak of it and its children together."""
        sizes = [_resident(process) for process in (self._process, *self._process.children(recursive=True))]
        self.peak = max(self.peak, sum(sizes))
        return sizes[0]


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0


def inputs(target: Target, seed: int, end: float, most: int | None) -> Iterator[bytes]:
    """Yield inputs, reproducible for a seed, until the end time or a number of inputs."""
    for number in count() if most is None else range(most):
        if most is None and time.monotonic() > end:
            return
        yield mutate(random.Random(f"{target.name} {seed} {number}"), target.seeds)


def fuzz(target: Target, watch: Watch, args: argparse.Namespace) -> dict[str, object]:
    """Send inputs until the time or the count is exhausted; return the results."""
    start, sent, faults = time.monotonic(), count(), {}
    each = inputs(target, args.seed, start + args.seconds / len(args.kinds), args.count)
    lock, first = threading.Lock(), watch.memory()

    def work() -> None:
        while len(faults) < MOST_FAULTS:
            with lock:
                data = next(each, None)
                if data is None:
                    return
                if next(sent) % 50 == 0:
                    watch.memory()
            if fault := watch.fault(target.send, data):
                faults[data] = fault

    with ThreadPoolExecutor(target.at_once) as pool:
        for done in [pool.submit(work) for _ in range(target.at_once)]:
            done.result()
    seconds, grown, peak = round(time.monotonic() - start, 1), max(watch.memory() - first, 0), watch.peak
    results = {"kind": target.name, "seed": args.seed, "inputs": next(sent), "seconds": seconds}
    results |= {"grown_bytes": grown, "peak_bytes": peak, "bounded": grown < MOST_GROWTH and peak < MOST_MEMORY}
    return {**results, "failed": store_failures(target, watch, faults, args.kept)}


def store_failures(target: Target, watch: Watch, faults: dict[bytes, str], folder: Path) -> list[str]:
    """Write failing inputs and their faults: those that also fail alone, minimized; if there are none, all of them."""
    failing_alone = {data: fault for data in faults if (fault := watch.fault(target.send, data))}
    names = []
    for data, fault in (failing_alone or faults).items():
        end = time.monotonic() + SMALL_SECONDS
        fails = lambda data, end=end: time.monotonic() < end and watch.fault(target.send, data)  # noqa: E731
        small = minimize(data, fails, SMALL_TRIES) if failing_alone else data
        names.append(f"{target.name}-{hashlib.sha256(small).hexdigest()[:12]}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[-1]).write_bytes(small)
        (folder / f"{names[-1]}.whole").write_bytes(data)
        (folder / f"{names[-1]}.txt").write_text(fault + "\n")
    return names


def remaining_files(server: ServerProcess) -> list[str]:
    """Delete all jobs, and return the files of jobs that are still there."""
    with Rpc(server.target) as rpc:
        while jobs := rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs:
            for job in jobs:
                rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=job.request_id))
    state = Path(server.settings["state"])
    return sorted(path.name for kind in ("jobs", "results") for path in state.glob(f"{kind}/*-*-*-*-*"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="time limit for all kinds together")
    parser.add_argument("--count", type=int, help="number of inputs of each kind, instead of a time limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=TARGETS, default=[*TARGETS])
    parser.add_argument("--kept", type=Path, default=SOAK / "fuzz", help="folder for failing inputs")
    args = parser.parse_args()
    wrong = False
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as name:
            settings = {"requests_per_minute": 10**9, "requests_per_day": 10**9, "request_seconds": 3}
            with ServerProcess(Path(name) / "state", source_idle_seconds=3, **settings) as server:
                watch, target = Watch(server.ready()), TARGETS[kind](server, Path(name))
                results = fuzz(target, watch, args)
                results["left"] = remaining_files(server)[:10]
                if results["failed"]:
                    shutil.copy(server.log, args.kept / f"{kind}.log")
                server.stop()
        print(json.dumps(results), flush=True)  # noqa: T201 - a script
        wrong |= bool(results["failed"] or results["left"] or not results["bounded"])
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
