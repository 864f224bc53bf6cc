"""Errors of the client."""

import grpc

from upres.engine.core.errors import UpresError


class RemoteError(UpresError):
    """Raised when a server refuses a call (code), cannot be reached for too long, or reports that a job failed."""

    exit_code = 7

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code
