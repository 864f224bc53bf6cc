"""Errors of the service. Independent of gRPC and HTTP: `upres.service.api.error_map` maps them to responses."""

from collections.abc import Mapping, Sequence

from upres.engine.core.errors import SourceError, UpresError

Problems = Mapping[str, Sequence[str]]  # field → its problems


class StoreError(UpresError):
    """Raised when the database, the state folder or a port cannot be used."""

    exit_code = 7


class DiskFullError(StoreError):
    """Raised when a disk of the server is full; accepted jobs wait until there is room."""


class TakenOverError(StoreError):
    """Raised when another server has taken over this one's jobs, so that this one may no longer change them."""


class OtherStoreError(StoreError):
    """Raised when the other servers of a database keep its jobs elsewhere than this one would."""


class NotFoundError(UpresError):
    """Raised when there is no such job or key, or when it belongs to another key."""

    exit_code = 7


class ConflictError(UpresError):
    """Raised when a name or an idempotency key is already in use for something else."""

    exit_code = 7


class InvalidError(UpresError):
    """Raised when fields of a request are invalid; names all of them."""

    def __init__(self, problems: Problems) -> None:
        self.problems = {name: list(messages) for name, messages in problems.items()}
        messages = [message for name in self.problems for message in self.problems[name]]
        more = len(messages) - 1
        super().__init__(messages[0] + (f" (and {more} more error{'s' if more > 1 else ''})" if more else ""))


class TooSmallError(SourceError):
    """Raised when the frames of a source are smaller than the server accepts."""


class TooLargeError(UpresError):
    """Raised when a request is larger than the server accepts."""


class SilentError(UpresError):
    """Raised when a request's body stalls before its end."""


class UnauthenticatedError(UpresError):
    """Raised when a request has no API key, or one that is not in use."""


class BusyError(UpresError):
    """Raised when the queue or the disk is full, or a rate limit is exceeded.

    retry_seconds: when to retry. kind: of the rate limit, minute or daily.
    """

    def __init__(self, message: str, retry_seconds: int, kind: str = "minute") -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        self.kind = kind


class NoRoomError(UpresError):
    """Raised when other attempts hold the memory or the device that an attempt needs."""


class StoppingError(UpresError):
    """Raised when the server is shutting down and accepts nothing new."""


class UnavailableError(UpresError):
    """Raised when the server is temporarily unable to serve a request, through no fault of the request."""


class LostError(UnavailableError):
    """Raised when data that a job needs is missing from its store or damaged: unlike an outage, that is permanent."""


class OffsetError(UpresError):
    """Raised when bytes arrive at an unexpected offset, or a cursor is not in the log. where: the expected position, by name."""

    def __init__(self, message: str, where: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.where = dict(where or {})


class ResultMissingError(UpresError):
    """Raised when a job has no result to read, because it is not done."""
