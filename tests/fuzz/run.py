"""`make fuzz`: nearly right sources, protobufs and HTTP requests for a real server, from a seed, within a time.

An input fails where the server ends, logs an error or a traceback, says that the fault is its own, or does not answer. What
fails is made small and kept. At the end nothing may be left of what was sent, and the server's memory may not have grown.
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
from mutation import minimized, mutated
from paths import SOAK
from serving import Rpc, ServerProcess
from targets import Log, Target, protobufs, requests, sources

from upres.v2 import upscale_pb2 as pb

TARGETS = {make.__name__: make for make in (sources, protobufs, requests)}
MOST_GROWTH = 256 << 20  # bytes, of the server's own process
MOST_MEMORY = 4 << 30  # bytes, of it and all that it started
MOST_FAULTS = 20  # after which a run ends
SMALL_TRIES = 40  # to make one smaller
SMALL_SECONDS = 120.0  # for that: what is never answered takes a minute each time


class Watch:
    """A server that inputs are sent to, and all that is wrong with it so far."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._log = Log(server)
        self._process = psutil.Process(server.process.pid)
        self._lock = threading.Lock()
        self.peak = 0

    def fault(self, send: Callable[[bytes], str | None], data: bytes) -> str | None:
        """What is wrong with how the server took this; where others are under way, one of them may have logged it."""
        answer = send(data)
        with self._lock:
            logged = next(iter([*self._log.faults()]), None)  # all of it is read now, or the next input would be blamed
        if (code := self._server.process.poll()) is not None:
            return f"the server ended with {code}"
        return answer or logged

    def memory(self) -> int:
        """Bytes of the server's own process. Notes the most that it and all its children took together."""
        sizes = [_resident(process) for process in (self._process, *self._process.children(recursive=True))]
        self.peak = max(self.peak, sum(sizes))
        return sizes[0]


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0


def inputs(target: Target, seed: int, end: float, most: int | None) -> Iterator[bytes]:
    """What is sent, in order: the same for the same seed, for as long as there is time."""
    for number in count() if most is None else range(most):
        if most is None and time.monotonic() > end:
            return
        yield mutated(random.Random(f"{target.name} {seed} {number}"), target.seeds)


def fuzz(target: Target, watch: Watch, args: argparse.Namespace) -> dict[str, object]:
    """Send inputs until time or count is over; what came of it."""
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
    told = {"kind": target.name, "seed": args.seed, "inputs": next(sent), "seconds": seconds}
    told |= {"grown_bytes": grown, "peak_bytes": peak, "bounded": grown < MOST_GROWTH and peak < MOST_MEMORY}
    return {**told, "failed": kept(target, watch, faults, args.kept)}


def kept(target: Target, watch: Watch, faults: dict[bytes, str], folder: Path) -> list[str]:
    """Write what failed, and why, one input after the other: small if it fails by itself too; else only if none does."""
    alone = {data: fault for data in faults if (fault := watch.fault(target.send, data))}
    names = []
    for data, fault in (alone or faults).items():
        end = time.monotonic() + SMALL_SECONDS
        fails = lambda data, end=end: time.monotonic() < end and watch.fault(target.send, data)  # noqa: E731
        small = minimized(data, fails, SMALL_TRIES) if alone else data
        names.append(f"{target.name}-{hashlib.sha256(small).hexdigest()[:12]}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[-1]).write_bytes(small)
        (folder / f"{names[-1]}.whole").write_bytes(data)
        (folder / f"{names[-1]}.txt").write_text(fault + "\n")
    return names


def left(server: ServerProcess) -> list[str]:
    """The files that are left of the jobs that were sent, once all are deleted."""
    with Rpc(server.target) as rpc:
        while jobs := rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs:
            for job in jobs:
                rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=job.request_id))
    state = Path(server.settings["state"])
    return sorted(path.name for kind in ("jobs", "results") for path in state.glob(f"{kind}/*-*-*-*-*"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all kinds together")
    parser.add_argument("--count", type=int, help="inputs of each kind, however long they take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=TARGETS, default=[*TARGETS])
    parser.add_argument("--kept", type=Path, default=SOAK / "fuzz", help="folder for what failed")
    args = parser.parse_args()
    wrong = False
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as name:
            settings = {"requests_per_minute": 10**9, "requests_per_day": 10**9, "request_seconds": 3}
            with ServerProcess(Path(name) / "state", source_idle_seconds=3, **settings) as server:
                watch, made = Watch(server.ready()), TARGETS[kind](server, Path(name))
                told = fuzz(made, watch, args)
                told["left"] = left(server)[:10]
                if told["failed"]:
                    shutil.copy(server.log, args.kept / f"{kind}.log")
                server.stop()
        print(json.dumps(told), flush=True)  # noqa: T201 - a script
        wrong |= bool(told["failed"] or told["left"] or not told["bounded"])
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
