"""The attempts that are under way, as the scheduler and those who read reports see them."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Attempt:
    """One attempt. news: what it last reported. since: when it started, on the monotonic clock.

    yielding: it was ended to give its slot to somebody else, and its job is put back when it has gone. gone: set then.
    """

    owner: str
    live: bool = False
    news: dict[str, Any] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    yielding: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Attempts(dict[str, Attempt]):
    """The attempts by job."""

    def by_owner(self) -> Counter[str]:
        """Count the attempts of each owner, live ones apart."""
        return Counter(attempt.owner for attempt in self.values() if not attempt.live)
