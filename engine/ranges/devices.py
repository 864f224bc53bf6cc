"""Devices that process ranges concurrently, each driven by a thread of this process that works on one range at a time."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol, Self

from upres.engine.core.errors import Interrupted
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.options import Job, fitted
from upres.engine.pipeline.progress import Progress

from .board import Board
from .folder import Ranges
from .maker import make_range

STOP_SECONDS = 120.0  # timeout for a device to stop; it first finishes the frame it is working on


class DeviceLostError(Exception):
    """Raised when a device can process no more ranges because its process has ended."""


class Device(Protocol):
    """A device that processes ranges, one at a time."""

    def prepare(self) -> None:
        """Wait until it is ready. Raises DeviceLostError if it cannot be used."""
        ...

    def make(self, number: int) -> None:
        """Process a range from where its log ends, and return once the log is complete. Raises DeviceLostError if lost."""
        ...

    def stop(self) -> None:
        """Make the current range, and all later ones, end soon with an error. May be called from any thread."""
        ...


class LocalDevice:
    """A device whose models are in this process.

    reader: opens the source; called for each range. job: includes the models.
    """

    def __init__(self, reader: Callable[[], Reader], job: Job, ranges: Ranges) -> None:
        self._reader, self._job, self._ranges = reader, job, ranges
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Do nothing: the models are already loaded."""

    def make(self, number: int) -> None:
        """Process a range."""
        plan = self._ranges.plan
        assert plan is not None
        with closing(self._ranges.log(number)) as log, self._reader() as reader:
            make_range(reader, fitted(self._job, reader), log, plan.spans[number], Progress(), self._check)

    def stop(self) -> None:
        """Stop at the next frame that is decoded or encoded."""
        self._stopped.set()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Interrupted("the range is no longer needed")


class Crew:
    """Devices that process the ranges of a board between entering and leaving its `with` block.

    notes: messages for the user about devices that failed.
    """

    def __init__(self, devices: Sequence[Device], board: Board) -> None:
        self.notes: list[str] = []
        self._devices, self._board = devices, board
        self._threads = [
            threading.Thread(target=self._work, args=(device,), name=f"device {number}", daemon=True)
            for number, device in enumerate(devices)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()
        for device in self._devices:
            device.stop()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        if not self.idle:
            raise RuntimeError(f"a device is still running {STOP_SECONDS:g} s after it was stopped")

    @property
    def idle(self) -> bool:
        """Whether all devices have finished."""
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, device: Device) -> None:
        try:
            device.prepare()
        except DeviceLostError as error:
            self.notes.append(str(error))
            return
        while (number := self._board.take()) is not None:
            try:
                device.make(number)
            except DeviceLostError as error:
                self._board.fail(number, error)
                self.notes.append(str(error))
                return
            except Exception as error:  # any error means that the range is not complete
                self._board.fail(number, error)
            else:
                self._board.complete(number)
