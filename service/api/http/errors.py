"""Errors as the JSON responses of the v2 contract."""

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
    """Map an exception to status, body and headers; an unknown error discloses nothing."""
    error = known(error)
    status = answer(error)
    body: dict[str, object] = {"message": FIXED.get(status.http, public(str(error)))}
    headers = {}
    if status.http == 500:
        logger.error("internal error, not disclosed to the client", exc_info=error)
    if status.http == 422:
        problems = error.problems if isinstance(error, InvalidError) else {status.reason.lower(): [str(error)]}
        body["errors"] = {public(name, 100): [public(text) for text in texts] for name, texts in problems.items()}
    if isinstance(error, BusyError):
        headers = {"X-RateLimit-Type": error.kind, "Retry-After": str(error.retry_seconds)}
    if status.http == 408:
        headers = {"Connection": "close"}  # otherwise the rest of the body would be parsed as the next request
    if status.http == 503:
        headers = {"Retry-After": "5"}
    return JSONResponse(body, status.http, headers)


async def handle_error(request: Request, error: Any) -> Response:  # noqa: ANN401 - Starlette's handlers take any error
    """Respond to an exception."""
    return response_of(error)


async def handle_http(request: Request, error: Any) -> Response:  # noqa: ANN401
    """Respond to an unknown route or method."""
    return JSONResponse({"message": FIXED.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def handle_invalid(request: Request, error: Any) -> Response:  # noqa: ANN401
    """Respond to a request that FastAPI has rejected."""
    return response_of(InvalidError({str(each["loc"][-1]): [str(each["msg"])] for each in error.errors()}))


async def handle_gone(request: Request, error: Any) -> Response:  # noqa: ANN401
    """End a request whose client disconnected before sending it completely; the response is not read."""
    logger.info("the client disconnected before its request was complete")
    return Response(None, 400)
