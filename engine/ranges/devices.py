"""Devices that make ranges side by side, each in a thread of this process that takes one range after the other."""

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

STOP_SECONDS = 120.0  # for what is under way on a device to end: a frame's upscaling, at most


class DeviceLostError(Exception):
    """Raised when a device makes no more ranges: its process has ended."""


class Device(Protocol):
    """What makes ranges, one at a time."""

    def prepare(self) -> None:
        """Wait until it can make ranges; DeviceLostError where it cannot."""
        ...

    def make(self, number: int) -> None:
        """Make a range, from where its log ends; returns once its log is whole. DeviceLostError where this device makes no more."""
        ...

    def stop(self) -> None:
        """Make what is under way end soon, with any error, and everything later; from any thread."""
        ...


class Here:
    """A device whose models are in this process.

    reader: opens the source, once for each range. job: with the models.
    """

    def __init__(self, reader: Callable[[], Reader], job: Job, ranges: Ranges) -> None:
        self._reader, self._job, self._ranges = reader, job, ranges
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Do nothing: the models are loaded."""

    def make(self, number: int) -> None:
        """Make a range."""
        plan = self._ranges.plan
        assert plan is not None
        with closing(self._ranges.log(number)) as log, self._reader() as reader:
            make_range(reader, fitted(self._job, reader), log, plan.spans[number], Progress(), self._check)

    def stop(self) -> None:
        """End with the frame that is being decoded or encoded."""
        self._stopped.set()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Interrupted("the range is not wanted any more")


class Crew:
    """Devices at work on the ranges of a board: from entering its `with` on, to leaving it.

    notes: what a user should know of devices that do not work.
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
            raise RuntimeError(f"a device that was stopped still works after {STOP_SECONDS:g} s")

    @property
    def idle(self) -> bool:
        """Whether no device works any more."""
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
            except Exception as error:  # whatever it is, the range is not made
                self._board.fail(number, error)
            else:
                self._board.made(number)
