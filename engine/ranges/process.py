"""A device in a process of its own, which sees no other: with its models loaded, it makes the ranges that it is asked for.

The parent sends a pickled Setup, then a number a line; the answer is {"ready": settings}, then {"made": number} or {"failed": why}.
Empty lines in between say that the process lives: one that says nothing for SILENT_SECONDS is lost.
"""

import json
import os
import pickle
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from upres.engine.core.model import Model
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.options import Job, fitted

from .devices import DeviceLostError, Here
from .folder import Ranges

BEAT_SECONDS = 5.0  # between two signs of life
SILENT_SECONDS = 60.0  # without one
LINE_BYTES = 1 << 20  # of an answer
WHY_CHARACTERS = 1000

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
        self._read = b""  # of the next line
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
        """Wait for the process, and close its pipes, which others may hold open, too."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was to be sent is lost
                pipe.close()  # type: ignore[union-attr]  # both are pipes
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        """Wait for an answer; DeviceLostError where the process has ended, is silent for too long, or says too much."""
        while not (line := self._line()):
            pass  # it lives
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise DeviceLostError("what the process of a device has sent is no answer") from error
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            if len(self._read) > LINE_BYTES:
                raise DeviceLostError(f"the process of a device sent a line of more than {LINE_BYTES} bytes")
            if not _comes(self._process.stdout, SILENT_SECONDS):
                raise DeviceLostError(f"the process of a device has said nothing for {SILENT_SECONDS:g} s")
            if not (data := os.read(self._process.stdout.fileno(), LINE_BYTES)):
                self._process.kill()  # without a word it is of no use
                raise DeviceLostError(f"the process of a device has ended ({self._process.wait()})")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line


def _comes(pipe: IO[bytes], seconds: float) -> bool:
    """Wait until there is something to read, or the end, at most so many seconds; report whether there is."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def main() -> None:
    """Make ranges until stdin ends, and then end at once, whatever is under way."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    load, setup = pickle.load(sys.stdin.buffer)  # from the parent
    said = threading.Lock()
    threading.Thread(target=_beat, args=(answers, said), daemon=True).start()
    wanted: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(wanted,), daemon=True).start()
    job = replace(setup.job, models=load())
    with setup.reader() as reader:
        job = fitted(job, reader)
    _say(answers, said, json.dumps({"ready": job.settings()}))
    device = Here(setup.reader, job, Ranges(setup.folder, setup.header))
    while True:
        number = wanted.get()
        try:
            device.make(number)
            answer: dict[str, Any] = {"made": number}
        except Exception as error:  # whatever it is, the parent decides
            answer = {"failed": f"{type(error).__name__}: {error}"[:WHY_CHARACTERS]}
        _say(answers, said, json.dumps(answer))


def _say(answers: IO[str], said: threading.Lock, line: str) -> None:
    with said:
        answers.write(line + "\n")
        answers.flush()


def _beat(answers: IO[str], said: threading.Lock) -> None:
    """Say again and again that this process lives."""
    with suppress(OSError):  # nobody listens: stdin ends as well
        while True:
            _say(answers, said, "")
            time.sleep(BEAT_SECONDS)


def _listen(wanted: SimpleQueue[int]) -> None:
    for line in sys.stdin.buffer:
        wanted.put(int(line))
    os._exit(0)


if __name__ == "__main__":
    main()
