"""An error of upres as the contract's JSON body."""

import logging

from starlette.responses import JSONResponse

from upres.service.api.error_map import answer
from upres.service.domain.errors import BusyError, InvalidError

FIXED = {
    401: "Unauthenticated.",
    404: "No query results for the requested resource.",
    429: "Too Many Attempts.",
    500: "Server Error",
}

logger = logging.getLogger(__name__)


def told(error: Exception) -> JSONResponse:
    """Status, body and headers; an error that is not ours tells a stranger nothing."""
    found = answer(error)
    body: dict[str, object] = {"message": FIXED.get(found.http, str(error))}
    headers = {}
    if found.http == 500:
        logger.error("an error that is not told", exc_info=error)
    if found.http == 422:
        body["errors"] = error.problems if isinstance(error, InvalidError) else {found.reason.lower(): [str(error)]}
    if isinstance(error, BusyError):
        headers = {"X-RateLimit-Type": error.kind, "Retry-After": str(error.retry_seconds)}
    if found.http == 408:
        headers = {"Connection": "close"}  # the rest of the body would be taken for the next request
    if found.http == 503:
        headers = {"Retry-After": "5"}
    return JSONResponse(body, found.http, headers)
