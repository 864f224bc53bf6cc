"""Errors as the v2 contract's JSON responses."""

import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upres.service.api.error_map import answer, known
from upres.service.api.public_text import public
from upres.service.domain.errors import BusyError, InvalidError

FIXED = {
    401: "Unauthenticated.",
    404: "No query results for the requested resource.",
    429: "Too Many Attempts.",
    500: "Server Error",
}

logger = logging.getLogger(__name__)


def response_of(error: Exception) -> JSONResponse:
    """Map an exception to status, body and headers; an error that is not ours discloses nothing."""
    error = known(error)
    status = answer(error)
    body: dict[str, object] = {"message": FIXED.get(status.http, public(str(error)))}
    headers = {}
    if status.http == 500:
        logger.error("an error that is not disclosed", exc_info=error)
    if status.http == 422:
        problems = error.problems if isinstance(error, InvalidError) else {status.reason.lower(): [str(error)]}
        body["errors"] = {public(name, 100): [public(text) for text in texts] for name, texts in problems.items()}
    if isinstance(error, BusyError):
        headers = {"X-RateLimit-Type": error.kind, "Retry-After": str(error.retry_seconds)}
    if status.http == 408:
        headers = {"Connection": "close"}  # the rest of the body would be taken for the next request
    if status.http == 503:
        headers = {"Retry-After": "5"}
    return JSONResponse(body, status.http, headers)


async def handle_error(request: Request, error: Any) -> Response:  # noqa: ANN401 - Starlette's handlers take any error
    """Answer an exception."""
    return response_of(error)


async def handle_http(request: Request, error: Any) -> Response:  # noqa: ANN401
    """Answer a route or a method that does not exist."""
    return JSONResponse({"message": FIXED.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def handle_invalid(request: Request, error: Any) -> Response:  # noqa: ANN401
    """Answer what FastAPI found wrong with a request."""
    return response_of(InvalidError({str(each["loc"][-1]): [str(each["msg"])] for each in error.errors()}))


async def handle_gone(request: Request, error: Any) -> Response:  # noqa: ANN401
    """Answer a client that disconnected in the middle of its request, which reads nothing any more."""
    logger.info("the client disconnected before its request was complete")
    return Response(None, 400)
