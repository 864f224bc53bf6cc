"""The responses of the v2 contract as Pydantic models, and conversions of jobs and models to them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from upres.engine.models.catalog import Slug
from upres.engine.pipeline.advice import Clip, advise, in_words
from upres.service.api.public_text import public
from upres.service.domain.spec import SIDES, Limits, Spec
from upres.service.domain.states import Status
from upres.service.storage.job_store import Job

T = TypeVar("T")
CHANNELS = "private-client."  # followed by a key's name: the progress channel of its jobs
PAGE, LARGEST_PAGE = 25, 50
BALANCE = 1_000_000.0  # a self-hosted server charges nothing, but clients refuse to submit at 0


class Data(BaseModel, Generic[T]):
    """The envelope of a single object."""

    data: T


class LiveSource(BaseModel):
    """A stream that the server pulls; only the operator knows its URL."""

    name: str


class Submitted(BaseModel):
    """An accepted job. request_id: a UUID."""

    request_id: str


class Estimate(BaseModel):
    """The estimated cost of an upscale: always 0, and the approximate time in seconds."""

    price: float
    estimated_seconds: float


class Price(BaseModel):
    """The cost of a job."""

    amount: float
    is_estimated: bool


class JobStatus(BaseModel):
    """The status of a job. The fields from error_code to failed_at are present only while the status is error.

    progress: 0 to 100. result_url: opens without a key for a limited time; request the status again for a new link.
    """

    status: Literal["pending", "processing", "done", "error"]
    progress: float
    preview: str | None
    result_url: str | None
    results_alt_formats: None = None
    result: None = None
    price: Price | None
    error_code: Literal["WORKER_TIMEOUT", "WORKER_ERROR", "PROCESSING_ERROR"] | None = None
    error_message: str | None = None
    error_reason: str | None = None
    retryable: bool | None = None
    refunded: bool | None = None
    failed_at: str | None = None


class Rule(BaseModel):
    """A piece of advice with its reason. setting, value: the request's setting that follows the advice, if there is one."""

    rule: str
    say: str
    setting: str | None
    value: str | bool | None


class Advice(BaseModel):
    """Measurements of a source's first frames, each none, little or much, and the resulting advice."""

    interlaced: str
    blocks: str
    noise: str
    advice: list[Rule]


class JobEntry(JobStatus):
    """A job in a list. Times are ISO 8601 in UTC. hls_url: of a live job while it runs; players need no key for it."""

    request_id: str
    model: str
    live: bool
    hls_url: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None


class JobList(BaseModel):
    """One page of jobs, newest first. next: the cursor of the next page; null on the last one.

    channel: of the progress socket that reports changes of these jobs.
    """

    data: list[JobEntry]
    next: str | None
    channel: str


class ModelLimits(BaseModel):
    """Limits of a model's sources; scales are null if the scale is fixed, the duration is null if it is unlimited."""

    min_width: int
    max_width: int
    min_height: int
    max_height: int
    max_video_duration_seconds: float | None
    min_scale: int | None
    max_scale: int | None


class ModelInfo(BaseModel):
    """Properties of a model."""

    limits: ModelLimits
    features: dict[str, Any] = {}
    defaults: dict[str, Any] = {}


class Model(BaseModel):
    """A model that runs on this server."""

    name: str
    slug: str
    inference_types: list[str] = ["vid-upscale"]
    tags: list[str] = []
    status: str = "standard_model"
    info: ModelInfo


class PageLinks(BaseModel):
    """The URLs of other pages."""

    first: str
    last: str
    prev: str | None
    next: str | None


class PageMeta(BaseModel):
    """The position of a page among all pages."""

    current_page: int
    last_page: int
    per_page: int
    total: int


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    data: list[T]
    links: PageLinks
    meta: PageMeta


class Balance(BaseModel):
    """A constant: a self-hosted server charges nothing."""

    balance: float = BALANCE


class Authorization(BaseModel):
    """The signature that opens a channel for one connection."""

    auth: str


class Health(BaseModel):
    """Whether the process responds, or whether jobs can run."""

    status: Literal["ok", "ready", "not ready"]


class Message(BaseModel):
    """A message, usually an error."""

    message: str


class Invalid(Message):
    """An invalid request. errors: every invalid field with its problems."""

    errors: dict[str, list[str]]


Responses = dict[int | str, dict[str, Any]]


def documented(*codes: int) -> Responses:
    """Return the error responses of a route, for OpenAPI."""
    return {code: {"model": Invalid if code == 422 else Message} for code in codes}


def advice(clip: Clip) -> Advice:
    """Convert measurements, and the advice based on them, to a response."""
    rules = [(rule, *(rule.setting or (None, None))) for rule in advise(clip)]
    entries = [Rule(rule=rule.name, say=rule.advice, setting=setting, value=value) for rule, setting, value in rules]
    return Advice(**in_words(clip.measured), advice=entries)


def job_entry(job: Job, status: JobStatus, hls_url: str | None) -> JobEntry:
    """Convert a job and its status to a list entry."""
    return JobEntry(
        **status.model_dump(exclude_unset=True),
        request_id=job.request_id,
        model=" + ".join(Spec.from_json(job.spec).names),
        live=bool(job.spec.get("live")),
        hls_url=hls_url,
        created_at=moment(job.created_at),
        started_at=moment(job.started_at),
        ended_at=moment(job.ended_at),
    )


def job_status(job: Job, *, preview: str | None, result_url: str | None) -> JobStatus:
    """Convert a job to the contract's status."""
    state = job.state
    done = state.status is Status.DONE and not job.spec.get("live")
    fields: dict[str, object] = {
        "status": state.status,
        "progress": round(state.progress, 2),
        "preview": preview,
        "result_url": result_url if done else None,
        "results_alt_formats": None,
        "result": None,
        "price": Price(amount=0, is_estimated=False) if state.ended else None,
    }
    if failure := state.failure:
        fields |= {
            "error_code": failure.reason.code,
            "error_message": public(failure.message),
            "error_reason": failure.reason,
            "retryable": failure.reason.retryable,
            "refunded": False,
            "failed_at": moment(job.ended_at),
        }
    return JobStatus.model_validate(fields)


def moment(seconds: float | None) -> str | None:
    """Format Unix seconds as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def model(slug: Slug, limits: Limits) -> Model:
    """Convert a model to the contract's form."""
    low, high = SIDES
    ranged = len(slug.scales) > 1
    return Model(
        name=slug.slug.replace("_", " "),
        slug=slug.slug,
        info=ModelInfo(
            limits=ModelLimits(
                min_width=low,
                max_width=high,
                min_height=low,
                max_height=high,
                max_video_duration_seconds=limits.longest(Spec(slug.slug)),
                min_scale=slug.scales[0] if ranged else None,
                max_scale=slug.scales[-1] if ranged else None,
            )
        ),
    )


def page(items: Sequence[Model], url: str, *, limit: int, number: int) -> Page[Model]:
    """Return one page of a list, with links to the others."""
    size = min(max(1, limit), LARGEST_PAGE)
    last = max(1, -(-len(items) // size))
    number = max(1, number)

    def link(number: int) -> str:
        return f"{url}?limit={size}&page={number}"

    links = PageLinks(
        first=link(1),
        last=link(last),
        prev=link(number - 1) if number > 1 else None,
        next=link(number + 1) if number < last else None,
    )
    meta = PageMeta(current_page=number, last_page=last, per_page=size, total=len(items))
    return Page(data=list(items[(number - 1) * size : number * size]), links=links, meta=meta)
