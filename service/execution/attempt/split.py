"""Requests for the ranges of a job, each of which an attempt on any device processes, and waits for their results."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from upres.engine.ranges.merger import SeamError, Wait
from upres.service.execution.channel import Channel

POLL_SECONDS = 0.05  # between two checks for finished ranges
AWAIT_SECONDS = (
    10.0  # between two reports that a range is missing: longer than any shared folder takes to show new files
)


class RemoteRanges:
    """Ranges that are processed by the executor's devices.

    excused: context in which the attempt waits for other processes. tick: called after each check.
    """

    def __init__(
        self, channel: Channel, excused: Callable[[], AbstractContextManager[None]], tick: Callable[[], None]
    ) -> None:
        self._channel, self._excused, self._tick = channel, excused, tick
        self._reported = time.monotonic()

    @contextmanager
    def request(self, numbers: Sequence[int]) -> Iterator[Wait]:
        """Request ranges, and yield a function that waits for one; withdraw the request if the ranges cannot be used."""
        if numbers:
            self._channel.send({"report": "ranges", "numbers": list(numbers)})
        try:
            yield self._wait
        except SeamError:
            self._channel.send({"report": "ranges", "numbers": []})
            raise

    def _wait(self, number: int) -> None:
        with self._excused():
            time.sleep(POLL_SECONDS)
        self._tick()
        if time.monotonic() - self._reported > AWAIT_SECONDS:
            self._reported = time.monotonic()
            self._channel.send({"report": "awaits", "number": number})
