"""The map from errors to responses: gRPC status, HTTP status and machine-readable reason."""

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from upres.engine.core.errors import NO_SPACE, LogError, ModelError, SettingsError, SourceError, TargetError
from upres.service.domain.errors import (
    BusyError,
    ConflictError,
    DiskFullError,
    InvalidError,
    NotFoundError,
    OffsetError,
    ResultMissingError,
    SilentError,
    StoppingError,
    StoreError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from upres.service.domain.states import TransitionError


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the map. reason: for ErrorInfo over gRPC, and the key in `errors` over HTTP."""

    grpc: grpc.StatusCode
    http: int
    reason: str


ANSWERS: dict[type[BaseException], Answer] = {
    InvalidError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "INVALID"),
    DecodeError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "INVALID"),  # a corrupt protobuf
    SettingsError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "INVALID"),
    SourceError: Answer(grpc.StatusCode.INVALID_ARGUMENT, 422, "SOURCE_UNPROCESSABLE"),
    ModelError: Answer(grpc.StatusCode.FAILED_PRECONDITION, 422, "MODEL_UNAVAILABLE"),
    UnauthenticatedError: Answer(grpc.StatusCode.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
    NotFoundError: Answer(grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND"),
    ResultMissingError: Answer(grpc.StatusCode.FAILED_PRECONDITION, 404, "RESULT_MISSING"),
    ConflictError: Answer(grpc.StatusCode.ALREADY_EXISTS, 422, "CONFLICT"),
    TransitionError: Answer(grpc.StatusCode.FAILED_PRECONDITION, 422, "WRONG_STATE"),
    OffsetError: Answer(grpc.StatusCode.OUT_OF_RANGE, 422, "WRONG_OFFSET"),
    TooLargeError: Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "TOO_LARGE"),
    SilentError: Answer(grpc.StatusCode.DEADLINE_EXCEEDED, 408, "SOURCE_INCOMPLETE"),
    BusyError: Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "BUSY"),
    StoppingError: Answer(grpc.StatusCode.UNAVAILABLE, 503, "STOPPING"),
    UnavailableError: Answer(grpc.StatusCode.UNAVAILABLE, 503, "UNAVAILABLE"),
    DiskFullError: Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, 503, "NO_SPACE"),
    StoreError: Answer(grpc.StatusCode.UNAVAILABLE, 503, "STORE"),
    LogError: Answer(grpc.StatusCode.DATA_LOSS, 500, "LOG"),
    TargetError: Answer(grpc.StatusCode.INTERNAL, 500, "TARGET"),
}
UNKNOWN = Answer(grpc.StatusCode.INTERNAL, 500, "INTERNAL")


def known(error: Exception) -> Exception:
    """Return the error to report: DiskFullError for the system's own disk-full errors, otherwise the error itself."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return DiskFullError("a disk of the server is full; try again when there is room")
    return error


def answer(error: BaseException) -> Answer:
    """Look an error up by its class and its base classes; an unknown one is INTERNAL and discloses nothing."""
    return next((ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS), UNKNOWN)
