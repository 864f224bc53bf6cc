"""Errors of the service itself. Knows neither gRPC nor HTTP: `upres.service.api.error_map` says how each is answered."""

from collections.abc import Mapping, Sequence

from upres.engine.core.errors import UpresError

Problems = Mapping[str, Sequence[str]]  # field → what is wrong with it


class StoreError(UpresError):
    """Raised when the database, or the state folder, cannot be used."""


class DiskFullError(StoreError):
    """Raised when a disk of the server has no room; what was accepted waits until there is some."""


class TakenOverError(StoreError):
    """Raised when another server works on this one's jobs, which it may not change any more."""


class OtherStoreError(StoreError):
    """Raised when the other servers of a database keep its jobs elsewhere than this one would."""


class NotFoundError(UpresError):
    """Raised when there is no such job or key, or it belongs to another key."""


class ConflictError(UpresError):
    """Raised when a name or an idempotency key is taken by something else."""


class InvalidError(UpresError):
    """Raised when fields of a request are wrong; it names every one of them."""

    def __init__(self, problems: Problems) -> None:
        self.problems = {name: list(messages) for name, messages in problems.items()}
        messages = [message for name in self.problems for message in self.problems[name]]
        more = len(messages) - 1
        super().__init__(messages[0] + (f" (and {more} more error{'s' if more > 1 else ''})" if more else ""))


class TooLargeError(UpresError):
    """Raised when a request is larger than the server takes."""


class SilentError(UpresError):
    """Raised when a request's body stops coming before its end."""


class UnauthenticatedError(UpresError):
    """Raised when a request has no key, or one that is not in use."""


class BusyError(UpresError):
    """Raised when the queue, a rate or the disk is full. retry_seconds: when to ask again. kind: minute or daily."""

    def __init__(self, message: str, retry_seconds: int, kind: str = "minute") -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        self.kind = kind


class NoRoomError(UpresError):
    """Raised when what an attempt needs is taken by others now."""


class StoppingError(UpresError):
    """Raised when the server is about to stop and takes nothing new."""


class UnavailableError(UpresError):
    """Raised when the server cannot do its part just now, which says nothing about the request."""


class LostError(UnavailableError):
    """Raised when what a job needs is not where it was kept, or not as it was: that does not pass, as an outage does."""


class OffsetError(UpresError):
    """Raised when bytes come at another offset than the one expected, or a cursor is not in the log. where: what is there."""

    def __init__(self, message: str, where: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.where = dict(where or {})


class ResultMissingError(UpresError):
    """Raised when a job has no result to read: it has not ended well yet."""
