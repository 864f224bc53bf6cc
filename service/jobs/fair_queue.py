"""Who is next: every key in turn, however much another key has waiting. Live jobs do not wait: they have slots of their own."""

from collections import OrderedDict, deque

from upres.service.domain.errors import BusyError

RETRY_SECONDS = 10


class FairQueue:
    """Job ids that wait. most: how many may; those that go back in front after an interruption always may."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def check(self) -> None:
        """BusyError where there is no room for one more."""
        if len(self) >= self._most:
            raise BusyError(f"{self._most} jobs are waiting already; try again in {RETRY_SECONDS} s", RETRY_SECONDS)

    def put(self, request_id: str, owner: str, *, again: bool = False) -> None:
        """Add a job behind its owner's others; again: before them."""
        waiting = self._waiting.setdefault(owner, deque())
        if again:
            waiting.appendleft(request_id)
        else:
            waiting.append(request_id)

    def take(self) -> str | None:
        """The next job, None where none waits; its owner comes last in turn now."""
        for owner, waiting in self._waiting.items():
            request_id = waiting.popleft()
            if waiting:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            return request_id
        return None

    def remove(self, request_id: str) -> bool:
        """Take a job out; whether it was waiting."""
        for owner, waiting in self._waiting.items():
            if request_id in waiting:
                waiting.remove(request_id)
                if not waiting:
                    del self._waiting[owner]
                return True
        return False
