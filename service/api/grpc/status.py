"""Errors as gRPC statuses with details. Metadata is limited to 8 KiB in total, so quoted parts of a request are truncated."""

import json
import logging

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import Status as GrpcStatus
from grpc_status import rpc_status

from upres.service.api.error_map import answer, known
from upres.service.api.public_text import public
from upres.service.domain.errors import BusyError, InvalidError, OffsetError, StoppingError, UnavailableError

DOMAIN = "upres"
RETRY_SECONDS = 5
MESSAGE_BYTES, VIOLATION_BYTES = 800, 2000  # up to 3 and 4/3 times as large in percent-encoding and base64

logger = logging.getLogger(__name__)


def status_of(error: Exception) -> GrpcStatus:
    """Map an exception to code, message and details; an unknown error discloses nothing."""
    error = known(error)
    status = answer(error)
    disclosed = status.reason != "INTERNAL"
    if not disclosed:
        logger.error("internal error, not disclosed to the client: %s", json.dumps(str(error)), exc_info=error)
    where = error.where if isinstance(error, OffsetError) else {}
    details: list[Message] = [ErrorInfo(reason=status.reason, domain=DOMAIN, metadata=where)]
    if isinstance(error, InvalidError):
        details.append(BadRequest(field_violations=_violations(error)))
    if isinstance(error, BusyError | StoppingError | UnavailableError):
        seconds = error.retry_seconds if isinstance(error, BusyError) else RETRY_SECONDS
        details.append(RetryInfo(retry_delay=Duration(seconds=seconds)))
    message = public(_message(error), MESSAGE_BYTES) if disclosed else "internal error"
    return rpc_status.to_status(Status(code=status.grpc.value[0], message=message, details=[_any(d) for d in details]))


def _message(error: Exception) -> str:
    """Join all problems; the HTTP form contains the first one and their number instead."""
    return " ".join(v.description for v in _violations(error)) if isinstance(error, InvalidError) else str(error)


def _violations(error: InvalidError) -> list[BadRequest.FieldViolation]:
    """Return every problem, as far as they fit."""
    violations, room = [], VIOLATION_BYTES
    for name, messages in error.problems.items():
        for message in messages:
            violation = BadRequest.FieldViolation(field=public(name, 60), description=public(message, 300))
            room -= violation.ByteSize()
            if room >= 0:
                violations.append(violation)
    return violations


def _any(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
