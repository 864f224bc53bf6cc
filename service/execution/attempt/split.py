"""The ranges of an attempt's job, each made by an attempt of its own on any device: which are asked for, and waited for."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from upres.engine.ranges.merger import SeamError, Wait
from upres.service.execution.channel import Channel

POLL_SECONDS = 0.05  # between two looks for ranges that are being made
AWAIT_SECONDS = 10.0  # between two reports that one is not there: more than any folder takes to show what was made


class Asked:
    """Ranges made by the executor's devices. excused: while its `with` is entered, others are waited for. tick: after a look."""

    def __init__(
        self, channel: Channel, excused: Callable[[], AbstractContextManager[None]], tick: Callable[[], None]
    ) -> None:
        self._channel, self._excused, self._tick = channel, excused, tick
        self._reported = time.monotonic()

    @contextmanager
    def made(self, numbers: Sequence[int]) -> Iterator[Wait]:
        """Ask for ranges, and give what waits for one; where they are not to be used, they are no more asked for."""
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
