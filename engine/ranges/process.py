"""A device in a process of its own, which sees no other: with its models loaded, it makes the ranges that it is asked for.

The parent sends a pickled Setup, then a number a line; the answer is {"ready": settings}, then {"made": number} or {"failed": why}.
"""

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from upres.engine.core.model import Model
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.options import Job, fitted

from .devices import DeviceLostError, Here
from .folder import Ranges

Load = Callable[[], tuple[Model, ...]]


@dataclass(frozen=True, slots=True)
class Companion:
    """A device beside the one whose models a job has. environment: variables by which a process sees it, and no other.

    load: loads the same models there; a function that can be pickled.
    """

    environment: Mapping[str, str]
    load: Load


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process needs to make ranges, besides models. reader: opens the source. folder, header: of the job's log."""

    reader: Callable[[], Reader]
    job: Job
    folder: Path
    header: dict[str, Any]


class Beside:
    """A companion at work. Its process is started at once, and loads its models while others begin."""

    def __init__(self, companion: Companion, setup: Setup, settings: Mapping[str, Any]) -> None:
        self._settings = json.loads(json.dumps(settings))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **companion.environment},
            process_group=0,  # Ctrl-C is for this process, which ends that one
        )
        assert self._process.stdin is not None
        try:
            pickle.dump((companion.load, setup), self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            pass  # it is gone already, as the first question shows

    def prepare(self) -> None:
        """Wait until its models are loaded; DeviceLostError where they are others than the job's, or run otherwise."""
        if self._answer().get("ready") != self._settings:
            raise DeviceLostError("a device is not used: it has other models, or runs them otherwise")

    def make(self, number: int) -> None:
        """Have a range made; DeviceLostError where the process is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{number}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise DeviceLostError("the process of a device is gone") from error
        if why := self._answer().get("failed"):
            raise RuntimeError(why)

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Wait for the process, and close its pipes."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise DeviceLostError(f"the process of a device has ended ({self._process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Make ranges until stdin ends, and then end at once, whatever is under way."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    load, setup = pickle.load(sys.stdin.buffer)  # from the parent
    wanted: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(wanted,), daemon=True).start()
    job = replace(setup.job, models=load())
    with setup.reader() as reader:
        job = fitted(job, reader)
    answers.write(json.dumps({"ready": job.settings()}) + "\n")
    answers.flush()
    device = Here(setup.reader, job, Ranges(setup.folder, setup.header))
    while True:
        number = wanted.get()
        try:
            device.make(number)
            answer: dict[str, Any] = {"made": number}
        except Exception as error:  # whatever it is, the parent decides
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _listen(wanted: SimpleQueue[int]) -> None:
    for line in sys.stdin.buffer:
        wanted.put(int(line))
    os._exit(0)


if __name__ == "__main__":
    main()
