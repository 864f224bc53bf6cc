"""What the service itself finds wrong, and the one table from every error to gRPC status and HTTP code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

from upres.engine.core.errors import LogError, ModelError, SettingsError, SourceError, TargetError, UpresError

from .states import Failure, Reason, TransitionError

Problems = Mapping[str, Sequence[str]]  # field → what is wrong with it


class StoreError(UpresError):
    """Raised when the database cannot be used."""


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


class RemoteError(UpresError):
    """Raised by the client when a server refuses a call (code), or cannot be reached for too long, or a job failed there."""

    exit_code = 7

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class StoppingError(UpresError):
    """Raised when the server is about to stop and takes nothing new."""


class OffsetError(UpresError):
    """Raised when bytes come at another offset than the one expected, or a cursor is not in the log. where: what is there."""

    def __init__(self, message: str, where: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.where = dict(where or {})


class ResultMissingError(UpresError):
    """Raised when a job has no result to read: it has not ended well yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an error is told. reason: ErrorInfo's. failure: why a job ends where this stops its attempt; None means try again."""

    grpc: grpc.StatusCode
    http: int
    reason: str
    failure: Reason | None = None


ANSWERS: dict[type[BaseException], Answer] = {
    InvalidError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "INVALID"),
    SettingsError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "INVALID", Reason.PROCESSING_FAILED),
    SourceError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "SOURCE_UNPROCESSABLE", Reason.SOURCE_UNPROCESSABLE),
    ModelError: Answer(grpc.StatusCode.FAILED_PRECONDITION, 422, "MODEL_UNAVAILABLE", Reason.MODEL_UNAVAILABLE),
    UnauthenticatedError: Answer(grpc.StatusCode.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
    NotFoundError: Answer(grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND"),
    ResultMissingError: Answer(grpc.StatusCode.FAILED_PRECONDITION, 404, "RESULT_MISSING"),
    ConflictError: Answer(grpc.StatusCode.ALREADY_EXISTS, 422, "CONFLICT"),
    TransitionError: Answer(grpc.StatusCode.FAILED_PRECONDITION, 422, "WRONG_STATE"),
    OffsetError: Answer(grpc.StatusCode.OUT_OF_RANGE, 422, "WRONG_OFFSET"),
    TooLargeError: Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "TOO_LARGE", Reason.INPUT_TOO_LARGE),
    SilentError: Answer(grpc.StatusCode.DEADLINE_EXCEEDED, 408, "SOURCE_INCOMPLETE"),
    BusyError: Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "BUSY"),
    StoppingError: Answer(grpc.StatusCode.UNAVAILABLE, 503, "STOPPING"),
    LogError: Answer(grpc.StatusCode.DATA_LOSS, 500, "LOG"),
    TargetError: Answer(grpc.StatusCode.INTERNAL, 500, "TARGET"),
}
UNKNOWN = Answer(grpc.StatusCode.INTERNAL, 500, "INTERNAL")


def answer(error: BaseException | type[BaseException]) -> Answer:
    """How an error is told; anything not in the table is ours to mend and tells a stranger nothing."""
    kind = error if isinstance(error, type) else type(error)
    return next((ANSWERS[base] for base in kind.__mro__ if base in ANSWERS), UNKNOWN)


def failure_of(kind: str, message: str) -> Failure:
    """Why a job fails where an attempt ends with this error."""
    found = next((answer for known, answer in ANSWERS.items() if known.__name__ == kind), UNKNOWN)
    return Failure(found.failure or Reason.PROCESSING_FAILED, message)
