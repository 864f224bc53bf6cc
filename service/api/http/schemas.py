"""The v2 contract's JSON: what a job and a model look like there. Facts of the contract, no behaviour."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from upres.engine.models.catalog import Slug
from upres.service.domain.spec import SIDES, Limits, Spec
from upres.service.domain.states import Status
from upres.service.storage.job_store import Job

Json = dict[str, Any]
PAGE, LARGEST_PAGE = 25, 50
BALANCE = 1_000_000.0  # a self-hosted server has no price; clients refuse to submit at 0


def job(job: Job, *, preview: str | None, result_url: str | None) -> Json:
    """A job as `GET /jobs/{request_id}` tells it."""
    state = job.state
    failure = state.failure
    return {
        "status": state.status,
        "progress": round(state.progress, 2),
        "preview": preview,
        "result_url": result_url if state.status is Status.DONE and not job.spec.get("live") else None,
        "results_alt_formats": None,
        "result": None,
        "error_code": failure and failure.reason.code,
        "error_message": failure and failure.message,
        "error_reason": failure and failure.reason,
        "retryable": failure and failure.reason.retryable,
        "refunded": False if failure else None,
        "failed_at": moment(job.ended_at) if failure else None,
        "price": {"amount": 0, "is_estimated": False} if state.ended else None,
    }


def moment(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def model(slug: Slug, limits: Limits) -> Json:
    """A model as `GET /models` tells it."""
    low, high = SIDES
    ranged = len(slug.scales) > 1
    return {
        "name": slug.slug.replace("_", " "),
        "slug": slug.slug,
        "inference_types": ["vid-upscale"],
        "tags": [],
        "status": "standard_model",
        "info": {
            "limits": {
                "min_width": low,
                "max_width": high,
                "min_height": low,
                "max_height": high,
                "max_video_duration_seconds": limits.longest(Spec(slug.slug)),
                "min_scale": slug.scales[0] if ranged else None,
                "max_scale": slug.scales[-1] if ranged else None,
            },
            "features": {},
            "defaults": {},
        },
    }


def paged(items: Sequence[Json], query: Mapping[str, str], url: str) -> Json:
    """One page of a list, with its links. Numbers that are none count as absent."""
    size = min(max(1, _number(query.get("limit"), PAGE)), LARGEST_PAGE)
    last = max(1, -(-len(items) // size))
    page = max(1, _number(query.get("page"), 1))

    def link(number: int) -> str:
        return f"{url}?limit={size}&page={number}"

    return {
        "data": list(items[(page - 1) * size : page * size]),
        "links": {
            "first": link(1),
            "last": link(last),
            "prev": link(page - 1) if page > 1 else None,
            "next": link(page + 1) if page < last else None,
        },
        "meta": {"current_page": page, "last_page": last, "per_page": size, "total": len(items)},
    }


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 9 else default
