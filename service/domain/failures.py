"""Mapping from the error that ended an attempt to the failure of its job."""

from upres.engine.core.errors import EncoderError, ModelError, SettingsError, SourceError

from .errors import NoRoomError, TooLargeError, TooSmallError
from .states import Failure, Reason

REASONS = {
    SourceError.__name__: Reason.SOURCE_UNPROCESSABLE,
    TooSmallError.__name__: Reason.SOURCE_UNPROCESSABLE,
    ModelError.__name__: Reason.MODEL_UNAVAILABLE,
    TooLargeError.__name__: Reason.INPUT_TOO_LARGE,
    SettingsError.__name__: Reason.UNSUPPORTED,
    NoRoomError.__name__: Reason.CAPACITY_UNAVAILABLE,
    EncoderError.__name__: Reason.UNSUPPORTED,
}


def failure_of(kind: str, message: str) -> Failure:
    """Map the name of an error's class, and its message, to the failure of a job."""
    return Failure(REASONS.get(kind, Reason.PROCESSING_FAILED), message)
