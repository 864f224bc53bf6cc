"""A device in a separate process that sees no other device: it loads its models, then processes ranges on request.

The parent sends a pickled (load, Setup), then one number per line. The responses are {"ready": settings}, then {"made": number}
or {"failed": reason} for each. Empty lines in between are heartbeats: a process silent for SILENT_SECONDS is considered lost.
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
from upres.engine.machine.freed_memory import keep_freed_memory
from upres.engine.pipeline.options import Job, fitted

from .devices import DeviceLostError, LocalDevice
from .folder import Ranges

BEAT_SECONDS = 5.0  # interval between heartbeats
SILENT_SECONDS = 60.0  # time without a heartbeat after which a process is lost
LINE_BYTES = 1 << 20  # limit on a response
WHY_CHARACTERS = 1000

Load = Callable[[], tuple[Model, ...]]


@dataclass(frozen=True, slots=True)
class Companion:
    """A device in addition to the job's own. environment: variables that make only this device visible to a process.

    load: loads the same models in that process; must be picklable.
    """

    environment: Mapping[str, str]
    load: Load


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process needs to process ranges, besides models. reader: opens the source. folder, header: of the job's log."""

    reader: Callable[[], Reader]
    job: Job
    folder: Path
    header: dict[str, Any]


class ProcessDevice:
    """Runs a companion in a separate process, which starts immediately and loads its models concurrently with other work."""

    def __init__(self, companion: Companion, setup: Setup, settings: Mapping[str, Any]) -> None:
        self._settings = json.loads(json.dumps(settings))
        self._read = b""  # of the next response
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **companion.environment},
            process_group=0,  # Ctrl-C only reaches this process, which then ends the companion
        )
        assert self._process.stdin is not None
        try:
            pickle.dump((companion.load, setup), self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            pass  # the process has already ended, as reading its first response will show

    def prepare(self) -> None:
        """Wait until its models are loaded. Raises DeviceLostError if they differ from the job's or run differently."""
        if self._response().get("ready") != self._settings:
            raise DeviceLostError("a device is not used: it has other models, or runs them differently")

    def make(self, number: int) -> None:
        """Request a range and wait for it. Raises DeviceLostError if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{number}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise DeviceLostError("the process of a device has ended") from error
        if why := self._response().get("failed"):
            raise RuntimeError(why)

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Wait for the process and close its pipes, which its child processes may still hold open."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # unsent data is discarded
                pipe.close()  # type: ignore[union-attr]  # both are pipes
        self._process.wait()

    def _response(self) -> dict[str, Any]:
        """Wait for a response. Raises DeviceLostError if the process ends, is silent for too long, or sends garbage."""
        while not (line := self._line()):
            pass  # a heartbeat
        try:
            response: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise DeviceLostError("the process of a device has sent an invalid response") from error
        return response

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            if len(self._read) > LINE_BYTES:
                raise DeviceLostError(f"the process of a device sent a line of more than {LINE_BYTES} bytes")
            if not _readable(self._process.stdout, SILENT_SECONDS):
                raise DeviceLostError(f"the process of a device has been silent for {SILENT_SECONDS:g} s")
            if not (data := os.read(self._process.stdout.fileno(), LINE_BYTES)):
                self._process.kill()  # it closed its output, so it is of no use even if it still runs
                raise DeviceLostError(f"the process of a device has ended ({self._process.wait()})")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line


def _readable(pipe: IO[bytes], seconds: float) -> bool:
    """Wait until there is data to read or the end of the file; report whether this happens within the timeout."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def main() -> None:
    """Process requested ranges until stdin ends, then exit immediately, even while a range is in progress."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # redirect anything that libraries print to stderr
    load, setup = pickle.load(sys.stdin.buffer)  # from the parent
    lock = threading.Lock()
    threading.Thread(target=_beat, args=(output, lock), daemon=True).start()
    requests: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    if setup.job.encoders > 1:
        keep_freed_memory()
    job = replace(setup.job, models=load())
    with setup.reader() as reader:
        job = fitted(job, reader)
    _send(output, lock, json.dumps({"ready": job.settings()}))
    device = LocalDevice(setup.reader, job, Ranges(setup.folder, setup.header))
    while True:
        number = requests.get()
        try:
            device.make(number)
            response: dict[str, Any] = {"made": number}
        except Exception as error:  # of any type: the parent decides what to do
            response = {"failed": f"{type(error).__name__}: {error}"[:WHY_CHARACTERS]}
        _send(output, lock, json.dumps(response))


def _send(output: IO[str], lock: threading.Lock, line: str) -> None:
    with lock:
        output.write(line + "\n")
        output.flush()


def _beat(output: IO[str], lock: threading.Lock) -> None:
    """Send heartbeats."""
    with suppress(OSError):  # the parent is gone: stdin ends as well
        while True:
            _send(output, lock, "")
            time.sleep(BEAT_SECONDS)


def _listen(requests: SimpleQueue[int]) -> None:
    for line in sys.stdin.buffer:
        requests.put(int(line))
    os._exit(0)


if __name__ == "__main__":
    main()
