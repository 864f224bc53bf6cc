"""A worker: holds the models of one device and serves the attempts that run on it, each in a separate process.

It reads orders as JSON lines from stdin and writes reports as JSON lines to stdout. It ends, with its attempts, when stdin ends.
"""

import argparse
import importlib
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import IO, Any

import numpy as np

from upres.engine.core.errors import ModelError, SourceError
from upres.engine.core.frame import Frame
from upres.engine.core.model import Model, Predicting
from upres.engine.machine import nvidia
from upres.engine.machine.cache import cache_folder
from upres.engine.machine.host import cpu_family, cpu_name
from upres.engine.models import registry
from upres.engine.models.catalog import SLUGS
from upres.service.domain import job_logging

from .base import VERDICTS, Load
from .channel import Channel
from .chosen_models import Load as LoadModel
from .device_scheduler import Device
from .encoding.encoder_host import EncoderHosts
from .encoding.gpu_sessions import open_sessions
from .memory_budget import MERGING_PART, Claim, MemoryBudget, usable_memory
from .model_host import ModelHost
from .order import Order
from .ranges.line import Line
from .report_shape import Pace, checked
from .sandbox.environment import QUALITY, RUNTIME
from .sandbox.fork_server import Child, ForkServer
from .sandbox.limits import die_with_parent, name_process, reserve_stdout

BEAT_SECONDS = 1.0
STALL_SECONDS = 60.0
STALL_SECONDS_A_PIXEL = 6e-6  # added per pixel of an upscaled frame: flushing 60 frames from an encoder is one step
KILL_SECONDS = 10.0  # for the kernel to end a killed process

logger = logging.getLogger("upres.service.execution.worker")  # __name__ is __main__

Loaded = dict[tuple[str, int, str], tuple[Model, str | None]]


class Worker:
    """The worker process. stall_seconds: how long an attempt with small frames may make no progress.

    memory_bytes: limit for all its attempts; by default most of what is free now. nvenc: encode on the GPU if NVENC is available.
    """

    def __init__(
        self,
        load: LoadModel,
        reports: IO[str],
        *,
        stall_seconds: float = STALL_SECONDS,
        memory_bytes: int | None = None,
        nvenc: bool = False,
    ) -> None:
        self._stall_seconds = stall_seconds
        self._loader = load
        self._reports = reports
        self._loaded: Loaded = {}
        self._device = Device()
        self._memory = MemoryBudget(total := memory_bytes or usable_memory())
        # A separate budget: merging attempts wait for ranges, which wait for memory.
        self._merging = MemoryBudget(total // MERGING_PART)
        self._line = Line()
        self._writing = threading.Lock()
        self._attempts: dict[str, Child] = {}
        self._sessions = open_sessions() if nvenc else None
        self._frames: Counter[str] = Counter()
        self._forks = ForkServer()
        self._forks.start()  # its imports run while models are loaded

    def warm(self, preload: Sequence[str] = ()) -> None:
        """Load every available model, then report which are unavailable and why. Heartbeats are sent from now on.

        preload: MODEL@WxH, models to warm up for frames of that size.
        """
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        unavailable = {}
        for slug in SLUGS.values():
            try:
                model, _ = self._load(slug.slug, slug.scales[0], "auto")
                if isinstance(model, Predicting):
                    model.seconds(1, 1)  # measures the device's speed once, while it is otherwise idle
            except ModelError as error:
                unavailable[slug.slug] = str(error).replace(str(cache_folder()), "the cache")
        for name in preload:
            self._preload(name)
        self._forks.wait(STALL_SECONDS)
        nvenc = self._sessions is not None
        self._report(report="ready", unavailable=unavailable, kind=self._digest(), nvenc=nvenc)

    def _digest(self) -> str:
        """Return a digest of what a result depends on besides the job: devices with equal digests produce equal bytes."""
        models = sorted((*key, model.name, model.report, model.digest) for key, (model, _) in self._loaded.items())
        facts = [version("upres"), version("av"), cpu_name(), cpu_family(), sorted(set(nvidia.names())), models]
        return sha256(json.dumps([*facts, self._sessions is not None]).encode()).hexdigest()

    def _preload(self, name: str) -> None:
        """Run one frame of a size through a model, so that engines are loaded and kernels are chosen before the first job."""
        slug, _, size = name.partition("@")
        width, height = map(int, size.split("x"))
        try:
            model, _ = self._load(slug, SLUGS[slug].scales[0], "auto")
            session = model.open(width, height)
            for _ in (*session.push(Frame(np.zeros((height, width, 3), np.uint8), 0, 1)), *session.flush()):
                pass
            session.close()
        except (ModelError, SourceError) as error:
            logger.warning("cannot preload %s: %s", name, error)

    def run_orders(self, orders: IO[str]) -> None:
        """Execute orders until stdin ends."""
        for line in orders:
            match json.loads(line):
                case {"run": order}:
                    self._start(Order(**order))
                case {"cancel": request_id}:
                    if child := self._attempts.get(request_id):
                        child.kill()
        self._forks.close()

    def _start(self, order: Order) -> None:
        # Report this before the fork: the attempt counts as started from now on.
        self._report(report="started", request_id=order.request_id)
        try:
            child = self._forks.fork()
        except OSError as error:
            logger.error("cannot start a process for an attempt: %s", error)
            self._report(report="died", request_id=order.request_id)
            return
        self._attempts[order.request_id] = child
        threading.Thread(target=self._serve, name="attempt", args=(order, child), daemon=True).start()

    def _serve(self, order: Order, child: Child) -> None:
        job_logging.bind_job_id(order.logged, order.traceparent)
        channel = Channel(child.end)
        turn = partial(self._device.turn, order.owner, live=order.live)
        on_wait = partial(self._report, report="memory", request_id=order.request_id)
        identity, longest = (order.owner, order.request_id), 0.0 if order.live else order.wall_seconds
        memory = Claim(self._memory, *identity, longest=longest, on_wait=on_wait)
        encoders = EncoderHosts(self._sessions, order.request_id, on_wait)
        claims = memory, Claim(self._merging, *identity, longest=order.wall_seconds), encoders
        line = None if order.range_number is None else self._line
        host = ModelHost(channel, self._load, turn, *claims, line=line, live=order.live, on_frames=self._count_frames)
        answers = ThreadPoolExecutor(1, "answers", job_logging.bind_job_id, (order.logged, order.traceparent))
        late = threading.Event()
        threading.Thread(target=_enforce_time_limit, args=(order, child, host, late), daemon=True).start()
        verdict: dict[str, Any] = {"report": "died"}
        try:
            verdict = self._watch(order, channel, host, answers)
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            pass  # the process is gone or sent an invalid message; without a verdict it counts as died
        finally:
            child.kill()
            if not child.ended.wait(KILL_SECONDS):
                logger.error("an attempt's process has not ended %g s after it was killed", KILL_SECONDS)
            answers.shutdown()
            host.close()
            channel.close()
            self._attempts.pop(order.request_id, None)
            if late.is_set() and verdict["report"] == "died":
                verdict = {"report": "late"}
            self._report(**{**verdict, "request_id": order.request_id})

    def _watch(self, order: Order, channel: Channel, host: ModelHost, answers: ThreadPoolExecutor) -> dict[str, Any]:
        """Pass on an attempt's reports while its requests to the model are executed one by one; return its verdict.

        An attempt is late if, for the stall time, it sends nothing while no model works for it, or does not read what it is sent.
        """
        channel.send({"attempt": asdict(order)})
        answer: Future[None] | None = None
        pace = Pace()
        while True:
            stall = self._stall_seconds + STALL_SECONDS_A_PIXEL * host.pixels
            channel.limit(stall)
            works = answer is not None and not answer.done()
            try:
                if not channel.wait_readable(stall):
                    if works:
                        continue
                    raise TimeoutError
                message, frame = channel.receive(host.frame_bytes)
                if frame is None and message.get("report") in (None, "active"):
                    pace.keep(0)
                if "report" not in message:
                    if answer is not None:
                        answer.result()
                    answer = answers.submit(host.answer, message, frame)
                elif message["report"] != "active":
                    report = checked(message)
                    # An attempt that has sent a request holds the lock.
                    if report is None or (report["report"] == "locked" and answer is not None):
                        raise ValueError("an invalid report")
                    if report["report"] in VERDICTS:
                        return report
                    self._report(**{**report, "request_id": order.request_id})
                    pace.keep(len(str(report)))
            except (TimeoutError, EOFError) as error:  # EOFError also follows if the attempt did not read a reply
                if isinstance(error, EOFError) and not channel.stuck:
                    raise
                return {"report": "late", "stalled_seconds": stall}

    def _load(self, slug: str, scale: int, content: str) -> tuple[Model, str | None]:
        key = slug, scale, content
        if key not in self._loaded:
            self._loaded[key] = self._loader(*key)
        return self._loaded[key]

    def _count_frames(self, label: str, frames: int) -> None:
        self._frames[label] += frames

    def _beat(self) -> None:
        while True:
            self._report(report="beat", load=asdict(self._current_load()))
            time.sleep(BEAT_SECONDS)

    def _current_load(self) -> Load:
        encoders = (0, 0) if (sessions := self._sessions) is None else (sessions.in_use, sessions.most)
        return Load(self._device.busy_seconds, dict(self._frames), *self._memory.counts, *encoders)

    def _report(self, **report: Any) -> None:  # noqa: ANN401 - JSON
        with self._writing:
            self._reports.write(json.dumps(report) + "\n")
            self._reports.flush()


def _enforce_time_limit(order: Order, child: Child, host: ModelHost, late: threading.Event) -> None:
    """Kill an attempt that exceeds its time limit, not counting the time that it waited for memory which others held.

    Then interrupt what a model still does for an attempt that is gone: it may work on a whole shot at once.
    """
    started, remaining = time.monotonic(), order.wall_seconds
    while not child.ended.wait(remaining):
        assert order.wall_seconds is not None
        remaining = started + order.wall_seconds + host.waited - time.monotonic()
        if remaining <= 0:
            late.set()
            child.kill()
            child.ended.wait()
            break
    host.interrupt()


def load(slug: str, scale: int, content: str) -> tuple[Model, str | None]:
    """Load a model of the engine; return it with a line for the user if a better model exists."""
    runtime, quality = os.environ.get(RUNTIME, "auto"), os.environ.get(QUALITY, "high")
    return registry.load(slug, content=content, scale=scale, runtime=runtime, quality=quality)


def loader(name: str) -> LoadModel:
    """Import the function that `module:function` names."""
    module, _, function = name.partition(":")
    function_: LoadModel = getattr(importlib.import_module(module), function)
    return function_


def main() -> None:
    """Serve one device until stdin ends."""
    die_with_parent()
    name_process("upres-worker")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="upres.service.execution.worker:load", help="loader, as module:function")
    parser.add_argument("--preload", action="append", default=[], help="MODEL@WxH: warm up a model for this frame size")
    parser.add_argument("--nvenc", action="store_true", help="encode on the GPU if NVENC is available")
    parser.add_argument("--memory", type=int, help="limit in bytes for the memory of all attempts together")
    arguments = parser.parse_args()
    job_logging.configure("json")
    with reserve_stdout() as reports:
        worker = Worker(loader(arguments.models), reports, memory_bytes=arguments.memory, nvenc=arguments.nvenc)
        worker.warm(arguments.preload)
        worker.run_orders(sys.stdin)


if __name__ == "__main__":
    main()
