"""Errors of the client."""

from collections.abc import Sequence

import grpc

from upres.engine.core.errors import ModelError, SettingsError, SourceError, UpresError

REASONS: dict[str, type[UpresError]] = {
    "INVALID": SettingsError,
    "UNSUPPORTED": SettingsError,
    "SOURCE_UNPROCESSABLE": SourceError,
    "SOURCE_INCOMPLETE": SourceError,
    "INPUT_TOO_LARGE": SourceError,
    "TOO_LARGE": SourceError,
    "MODEL_UNAVAILABLE": ModelError,
}
"""The error that the same problem causes without a server, by the reason that the server states."""
FIELDS: dict[str, type[UpresError] | None] = {
    "model": ModelError,
    "models": ModelError,
    "live_source": None,
    "request_id": None,
}
"""The same for an invalid field; None if only a server has such a field. Other fields are settings."""


class RemoteError(UpresError):
    """Raised when a server refuses a call (code), cannot be reached for too long, or reports that a job failed.

    exit_code: 7, or that of the same mistake without a server, such as 3 for a source that is not a video.
    """

    exit_code = 7

    def __init__(
        self, message: str, code: grpc.StatusCode | None = None, *, reason: str = "", fields: Sequence[str] = ()
    ) -> None:
        """Create an error. reason: as the server states it. fields: those of the request that are invalid, if any."""
        super().__init__(message)
        self.code = code
        kind = FIELDS.get(fields[0], SettingsError) if fields else REASONS.get(reason)
        if kind is not None:
            self.exit_code = kind.exit_code
