"""The v2 HTTP contract, its v1 aliases, result files and health, as an ASGI application."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from upres.engine.core.errors import SourceError, UpresError
from upres.engine.models.catalog import SLUGS
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import InvalidError, NotFoundError, TooLargeError
from upres.service.domain.request_id import checked_id
from upres.service.domain.spec import Spec, problems_of
from upres.service.domain.states import Status
from upres.service.execution.inspection import Facts
from upres.service.execution.probe import Probe
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job
from upres.service.storage.results import keys

from . import forms, openapi, schemas
from .downloads import TYPES, Streamed, part
from .errors import told
from .middleware import Gate
from .signed_links import PATH, Links

UNKNOWN_SECONDS_A_PIXEL = 2e-6  # one core of a desktop, before any job was done
VIDEO = "The video must be a file of type: mp4, mpeg, mov, avi, wmv, ogg"


class Web:
    """The routes. upload_bytes: the largest video. public_url: how clients reach this server, if not as they just did.

    url_problems: what is wrong with a webhook's URL, by field, once its host was looked up.
    """

    def __init__(
        self,
        jobs: Jobs,
        links: Links,
        probe: Probe,
        *,
        upload_bytes: int,
        public_url: str | None,
        incoming: Path,
        url_problems: Callable[[str | None], Awaitable[dict[str, list[str]]]],
        metrics: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._jobs = jobs
        self._links = links
        self._probe = probe
        self._upload_bytes = upload_bytes
        self._public_url = public_url
        self._incoming = incoming
        self._url_problems = url_problems
        self._metrics = metrics

    def app(self, api_keys: Keys, quota: Quota) -> FastAPI:
        """The application."""
        app = FastAPI(title="upres", version="2", docs_url="/docs", redoc_url=None, openapi_url="/openapi.json")
        app.include_router(self._api("/api/v2", "videos/upscales", "videos/upscales/price", "jobs", "account/balance"))
        v1 = ("vid-upscale", "vid-upscale/price-calculation", "request-status", "balance")
        app.include_router(self._api("/api/v1/client", *v1), include_in_schema=False)
        for method in ("GET", "HEAD"):
            app.add_api_route(f"{PATH}{{name}}", self.result, methods=[method], openapi_extra=openapi.SIGNED)
        app.add_api_route("/healthz", self.health, methods=["GET"])
        app.add_api_route("/readyz", self.ready, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=PlainTextResponse)
        app.add_exception_handler(UpresError, _told)
        app.add_exception_handler(HTTPException, _http)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(Exception, _told)
        app.add_middleware(Gate, keys=api_keys, quota=quota, idle_seconds=self._jobs.policy.source_idle_seconds)
        return app

    def _api(self, prefix: str, upscales: str, price: str, jobs: str, balance: str) -> APIRouter:
        router = APIRouter(prefix=prefix)
        router.add_api_route(f"/{upscales}", self.submit, methods=["POST"], openapi_extra=openapi.UPSCALE)
        router.add_api_route(f"/{price}", self.price, methods=["POST"], openapi_extra=openapi.UPSCALE)
        router.add_api_route(f"/{jobs}/{{request_id}}", self.job, methods=["GET"])
        router.add_api_route("/models", self.models, methods=["GET"], openapi_extra=openapi.PAGED)
        router.add_api_route(f"/{balance}", self.balance, methods=["GET"])
        return router

    async def submit(self, request: Request) -> Response:
        """Take a video to be upscaled; every problem of the request is named in one answer."""
        form = await forms.fields(request)
        try:
            spec, problems = forms.spec_of(form)
            problems = {**problems_of(spec, self._jobs.policy.limits, self._jobs.refused), **problems}
            problems = {**await self._url_problems(spec.webhook_url), **problems}
            with tempfile.TemporaryDirectory(dir=self._incoming) as folder:
                path = Path(folder) / "source"
                video = form.get("video")
                wrong, _ = await self._looked(video, path, spec, request.state.owner)
                problems |= {"video": wrong} if wrong else {}
                if problems or not isinstance(video, UploadFile):
                    raise InvalidError(problems)
                job = await self._created(request, spec, video)
                job = await self._jobs.take_source(job, path)
        finally:
            await form.close()
        return JSONResponse({"data": {"request_id": job.request_id}})

    async def price(self, request: Request) -> Response:
        """What an upscale would cost: nothing; and about how many seconds it would take."""
        form = await forms.fields(request)
        try:
            spec, problems = forms.spec_of(form)
            problems = {**problems_of(spec, self._jobs.policy.limits, {}), **problems}
            facts, wrong = await self._measured(form, spec, request.state.owner)
            problems |= wrong
            if problems:
                raise InvalidError(problems)
        finally:
            await form.close()
        speed = await asyncio.to_thread(self._seconds_a_pixel)
        seconds = facts.width * facts.height * facts.frames * speed
        return JSONResponse({"data": {"price": 0, "estimated_seconds": round(seconds, 2)}})

    async def job(self, request: Request, request_id: str) -> Response:
        """Where a job stands."""
        try:
            job = await self._jobs.get(checked_id(request_id), request.state.owner)
        except InvalidError as error:
            raise NotFoundError(str(error)) from error
        base = self._public_url or str(request.base_url)
        video, picture = keys(job.request_id)
        seen = job.state.status is Status.DONE or self._jobs.folder(job.request_id).preview.exists()
        preview = self._links.make(base, picture) if seen else None
        return JSONResponse({"data": schemas.job(job, preview=preview, result_url=self._links.make(base, video))})

    async def models(self, request: Request) -> Response:
        """What can be run here; nothing, before models are warm for the first time."""
        wanted = request.query_params.get("filter[inference_types]", "vid-upscale").split(",")
        here = [slug for slug in SLUGS.values() if slug.slug not in self._jobs.unavailable]
        found = [schemas.model(slug, self._jobs.policy.limits) for slug in here] if "vid-upscale" in wanted else []
        url = (self._public_url or str(request.base_url)).rstrip("/") + request.url.path
        return JSONResponse(schemas.paged(found, request.query_params, url))

    async def balance(self) -> Response:
        """A constant: a server of one's own has no price."""
        return JSONResponse({"data": {"balance": schemas.BALANCE}})

    async def result(self, request: Request, name: str) -> Response:
        """A result's file, by a signed link; the whole or a range."""
        query = request.query_params
        expires = query.get("expires", "")
        if (
            not expires.isdecimal()
            or len(expires) > 12
            or not self._links.holds(name, int(expires), query.get("signature", ""))
        ):
            raise NotFoundError("the link is none of ours, or has expired; ask for the job again")
        kind = TYPES[name.rpartition(".")[2]]
        local = self._jobs.folder(name.rpartition(".")[0]).preview
        if kind == "image/jpeg" and local.exists():
            return Response(await asyncio.to_thread(local.read_bytes), media_type=kind)
        size = await self._jobs.results.size(name)
        found = part(request.headers.get("range") if request.method == "GET" else None, size)
        if found is None:
            return Response(None, 416, {"Content-Range": f"bytes */{size}"})
        start, end = found
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        if (start, end) != (0, size):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Streamed(self._jobs.results.read(name, start, end), 206 if "Content-Range" in headers else 200, headers)

    async def health(self) -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self) -> Response:
        """Whether models are warm and new jobs are taken."""
        ready = self._jobs.ready
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def metrics(self) -> Response:
        """For Prometheus."""
        text, kind = await asyncio.to_thread(self._metrics)
        return Response(text, media_type=kind)

    async def _looked(self, video: object, path: Path, spec: Spec, owner: str) -> tuple[list[str], Facts | None]:
        """What is wrong with an upload, and facts where nothing is; it lies at `path` then."""
        if not isinstance(video, UploadFile):
            return ["The video field is required."], None
        if (video.size or 0) > self._upload_bytes:
            return [f"The video must not be larger than {self._upload_bytes} bytes."], None
        await asyncio.to_thread(_copy, video, path)
        try:
            return [], await self._probe(path, spec, owner)
        except TooLargeError as error:
            return [str(error)], None
        except SourceError as error:
            return [f"{VIDEO} ({error})."], None

    async def _created(self, request: Request, spec: Spec, video: UploadFile) -> Job:
        idempotency = request.headers.get("idempotency-key") or None
        body = await asyncio.to_thread(forms.fingerprint, spec, video) if idempotency else None
        job, _ = await self._jobs.create(spec, request.state.owner, idempotency=idempotency, fingerprint=body)
        return job

    async def _measured(self, form: FormData, spec: Spec, owner: str) -> tuple[Facts, forms.Problems]:
        """Facts about a video that was sent, or of which only the measures were."""
        if "video" in form:
            with tempfile.TemporaryDirectory(dir=self._incoming) as folder:
                wrong, facts = await self._looked(form["video"], Path(folder) / "source", spec, owner)
            return facts or Facts(0, 0, 0), {"video": wrong} if wrong else {}
        problems: forms.Problems = {}
        width, height, seconds = (forms.number(form, name, problems) for name in ("width", "height", "duration"))
        return Facts(int(width or 0), int(height or 0), round((seconds or 0) * 30)), problems

    def _seconds_a_pixel(self) -> float:
        """Return what the last jobs took that did not wait for their sender."""
        done = [job for job in self._jobs.store.page(status=Status.DONE, limit=20) if job.totals.get("pixels")]
        pixels = sum(job.totals["pixels"] for job in done)
        seconds = sum((job.ended_at or 0) - (job.started_at or 0) for job in done)
        return seconds / pixels if pixels else UNKNOWN_SECONDS_A_PIXEL


def _copy(video: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(video.file, file)


async def _told(request: Request, error: Any) -> Response:  # noqa: ANN401 - Starlette's handlers take any error
    return told(error)


async def _http(request: Request, error: Any) -> Response:  # noqa: ANN401
    known = {404: "No query results for the requested resource."}
    return JSONResponse({"message": known.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Any) -> Response:  # noqa: ANN401
    return told(InvalidError({str(e["loc"][-1]): [str(e["msg"])] for e in error.errors()}))
