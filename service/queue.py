"""Who is next: live before jobs, and every key in turn, however much another key has waiting."""

from collections import OrderedDict, deque

from .errors import BusyError

RETRY_SECONDS = 10


class FairQueue:
    """Job ids that wait. most: how many may; those that go back in front after an interruption always may."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lanes: tuple[OrderedDict[str, deque[str]], ...] = (OrderedDict(), OrderedDict())

    def __len__(self) -> int:
        return sum(len(waiting) for lane in self._lanes for waiting in lane.values())

    def check(self) -> None:
        """BusyError where there is no room for one more."""
        if len(self) >= self._most:
            raise BusyError(f"{self._most} jobs are waiting already; try again in {RETRY_SECONDS} s", RETRY_SECONDS)

    def put(self, request_id: str, owner: str, *, urgent: bool = False, again: bool = False) -> None:
        """Add a job behind its owner's others; urgent: before everybody's jobs; again: before its owner's others."""
        waiting = self._lanes[0 if urgent else 1].setdefault(owner, deque())
        if again:
            waiting.appendleft(request_id)
        else:
            waiting.append(request_id)

    def take(self) -> str | None:
        """The next job, None where none waits; its owner comes last in turn now."""
        for lane in self._lanes:
            for owner, waiting in lane.items():
                request_id = waiting.popleft()
                if waiting:
                    lane.move_to_end(owner)
                else:
                    del lane[owner]
                return request_id
        return None

    def remove(self, request_id: str) -> bool:
        """Take a job out; whether it was waiting."""
        for lane in self._lanes:
            for owner, waiting in lane.items():
                if request_id in waiting:
                    waiting.remove(request_id)
                    if not waiting:
                        del lane[owner]
                    return True
        return False
