"""An error of upres as a gRPC status with its details."""

import json
import logging

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import Status as GrpcStatus
from grpc_status import rpc_status

from upres.service.api.error_map import answer
from upres.service.domain.errors import BusyError, InvalidError, OffsetError, StoppingError

DOMAIN = "upres"
STOPPING_SECONDS = 5

logger = logging.getLogger(__name__)


def status_of(error: Exception) -> GrpcStatus:
    """Code, message and details; an error that is not ours tells a stranger nothing."""
    told = answer(error)
    known = told.reason != "INTERNAL"
    if not known:
        logger.error("an error that is not told: %s", json.dumps(str(error)), exc_info=error)
    where = error.where if isinstance(error, OffsetError) else {}
    details: list[Message] = [ErrorInfo(reason=told.reason, domain=DOMAIN, metadata=where)]
    if isinstance(error, InvalidError):
        details.append(BadRequest(field_violations=_violations(error)))
    if isinstance(error, BusyError | StoppingError):
        seconds = error.retry_seconds if isinstance(error, BusyError) else STOPPING_SECONDS
        details.append(RetryInfo(retry_delay=Duration(seconds=seconds)))
    message = _message(error) if known else "internal error"
    return rpc_status.to_status(Status(code=told.grpc.value[0], message=message, details=[_any(d) for d in details]))


def _message(error: Exception) -> str:
    """All that is wrong, where HTTP's own form has the first of it and a number."""
    return " ".join(v.description for v in _violations(error)) if isinstance(error, InvalidError) else str(error)


def _violations(error: InvalidError) -> list[BadRequest.FieldViolation]:
    return [
        BadRequest.FieldViolation(field=name, description=message)
        for name, messages in error.problems.items()
        for message in messages
    ]


def _any(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
