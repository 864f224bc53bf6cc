"""The responses of the v2 contract as Pydantic models, and how jobs and models are put into them."""

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
CHANNELS = "private-client."  # with a key's name: where the progress socket reports on its jobs
PAGE, LARGEST_PAGE = 25, 50
BALANCE = 1_000_000.0  # a self-hosted server has no price; clients refuse to submit at 0


class Data(BaseModel, Generic[T]):
    """The envelope of a single thing."""

    data: T


class LiveSource(BaseModel):
    """A stream that the server pulls; its address is the operator's alone."""

    name: str


class Submitted(BaseModel):
    """An accepted job. request_id: a UUID."""

    request_id: str


class Estimate(BaseModel):
    """What an upscale would cost: nothing, and about how many seconds."""

    price: float
    estimated_seconds: float


class Price(BaseModel):
    """What a job has cost."""

    amount: float
    is_estimated: bool


class JobStatus(BaseModel):
    """Where a job stands. The fields from error_code to failed_at are there only while the status is error.

    progress: 0 to 100. result_url: opens without a key, for a while; ask again for a fresh one.
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
    """What is advised, with the reason. setting, value: of a request, where it is one that follows it."""

    rule: str
    say: str
    setting: str | None
    value: str | bool | None


class Advice(BaseModel):
    """What was measured on a source's first frames, each as none, little or much, and what follows, in that order."""

    interlaced: str
    blocks: str
    noise: str
    advice: list[Rule]


class JobEntry(JobStatus):
    """A job in a list. Times are ISO 8601 in UTC. hls_url: of a live job while it runs, for players, which need no key."""

    request_id: str
    model: str
    live: bool
    hls_url: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None


class JobList(BaseModel):
    """One page of jobs, newest first. next: the cursor of the page behind it; null on the last one.

    channel: of the progress socket, that reports a change of any of them.
    """

    data: list[JobEntry]
    next: str | None
    channel: str


class ModelLimits(BaseModel):
    """Limits of a model's sources; scales are null where the scale is fixed, the duration where it has no limit."""

    min_width: int
    max_width: int
    min_height: int
    max_height: int
    max_video_duration_seconds: float | None
    min_scale: int | None
    max_scale: int | None


class ModelInfo(BaseModel):
    """Facts of a model."""

    limits: ModelLimits
    features: dict[str, Any] = {}
    defaults: dict[str, Any] = {}


class Model(BaseModel):
    """A model that runs here."""

    name: str
    slug: str
    inference_types: list[str] = ["vid-upscale"]
    tags: list[str] = []
    status: str = "standard_model"
    info: ModelInfo


class PageLinks(BaseModel):
    """The addresses of pages."""

    first: str
    last: str
    prev: str | None
    next: str | None


class PageMeta(BaseModel):
    """Where a page stands among all."""

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
    """A constant: a self-hosted server has no price."""

    balance: float = BALANCE


class Authorization(BaseModel):
    """The signature that opens a channel to one connection."""

    auth: str


class Health(BaseModel):
    """Whether the process answers, or whether jobs can run."""

    status: Literal["ok", "ready", "not ready"]


class Message(BaseModel):
    """An error."""

    message: str


class Invalid(Message):
    """A request that is wrong; errors: every wrong field with all that is wrong with it."""

    errors: dict[str, list[str]]


Responses = dict[int | str, dict[str, Any]]


def documented(*codes: int) -> Responses:
    """Describe the errors of a route, for OpenAPI."""
    return {code: {"model": Invalid if code == 422 else Message} for code in codes}


def advice(clip: Clip) -> Advice:
    """Put what was measured, and what is advised by it, into the form of an answer."""
    rules = [(rule, *(rule.setting or (None, None))) for rule in advise(clip)]
    said = [Rule(rule=rule.name, say=rule.advice, setting=setting, value=value) for rule, setting, value in rules]
    return Advice(**in_words(clip.measured), advice=said)


def job_entry(job: Job, status: JobStatus, hls_url: str | None) -> JobEntry:
    """Put a job and its status into the form that a list has."""
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
    """Put a job into the contract's form."""
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
    """Put a model into the contract's form."""
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
    """Cut one page out of a list, with its links."""
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
