"""The v2 HTTP contract, its v1 aliases, result files and health checks, as an ASGI application."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import WrapValidator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

from upres.engine.core.errors import UpresError
from upres.engine.models.catalog import SLUGS
from upres.service.domain.errors import NotFoundError
from upres.service.jobs.service import Jobs

from . import schemas
from .downloads import TYPES, Download, part, single_range
from .errors import handle_error, handle_gone, handle_http, handle_invalid
from .forms import FormRoute
from .job_routes import JobRoutes
from .page import assets
from .schemas import PAGE, Balance, Data, Health, LiveSource, Model, Page, Responses, documented
from .signed_links import PATH, Links
from .submissions import Submissions

BEARER = Security(HTTPBearer(auto_error=False, description="An API key: `upres keys add NAME`."))
JSON_FORM = {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/PriceForm"}}}}}


def _or_default(default: int) -> WrapValidator:
    def validate(value: object, handler: Callable[[object], int]) -> int:
        try:
            return handler(value)
        except ValueError:
            return default

    return WrapValidator(validate)


Limit = Annotated[int, _or_default(PAGE), Query(description="At most 50; invalid values count as absent.")]
Number = Annotated[int, _or_default(1), Query(description="From 1; invalid values count as absent.")]
Types = Annotated[str, Query(alias="filter[inference_types]", description="Comma-separated names.")]
Expires = Annotated[int, _or_default(0), Query(description="Unix seconds.")]


class Web:
    """The routes. public_url: URL at which clients reach this server; by default that of the request. metrics: text, media type."""

    def __init__(
        self,
        jobs: Jobs,
        links: Links,
        submissions: Submissions,
        *,
        public_url: str | None,
        metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    ) -> None:
        self._jobs = jobs
        self._links = links
        self._submissions = submissions
        self._public_url = public_url
        self._metrics = metrics

    def app(self) -> FastAPI:
        """Return the application, without the middleware in front of it. The pages at /docs load nothing from other hosts."""
        app = FastAPIOffline(
            title="upres",
            version="2",
            redoc_url=None,
            redirect_slashes=False,
            swagger_ui_parameters={"validatorUrl": None},
        )
        app.include_router(self._api("/api/v2", "videos/upscales", "videos/upscales/price", "jobs", "account/balance"))
        v1 = ("vid-upscale", "vid-upscale/price-calculation", "request-status", "balance")
        app.include_router(self._api("/api/v1/client", *v1), include_in_schema=False)
        files: Responses = {
            200: {"content": {kind: {} for kind in TYPES.values()}},
            206: {},
            416: {},
            **documented(404, 422),
        }
        for method in ("GET", "HEAD"):
            app.add_api_route(
                f"{PATH}{{name}}", self.result, methods=[method], response_class=Response, responses=files
            )
        assets.mount(app)
        app.add_api_route("/healthz", self.health, methods=["GET"])
        app.add_api_route("/readyz", self.ready, methods=["GET"], responses={503: {"model": Health}})
        app.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=PlainTextResponse)
        app.add_exception_handler(UpresError, handle_error)
        app.add_exception_handler(HTTPException, handle_http)
        app.add_exception_handler(RequestValidationError, handle_invalid)
        app.add_exception_handler(ClientDisconnect, handle_gone)
        app.add_exception_handler(Exception, handle_error)
        return app

    def _api(self, prefix: str, upscales: str, price: str, jobs: str, balance: str) -> APIRouter:
        router = APIRouter(
            prefix=prefix, dependencies=[BEARER], responses=documented(401, 422, 429), redirect_slashes=False
        )
        forms = APIRouter(route_class=FormRoute, responses=documented(413), redirect_slashes=False)
        take = self._submissions
        forms.add_api_route(f"/{upscales}", take.submit, methods=["POST"])
        forms.add_api_route(f"/{price}", take.price, methods=["POST"], openapi_extra=JSON_FORM)
        router.include_router(forms)
        routes = JobRoutes(self._jobs, self._links, self._public_url)
        if jobs == "jobs":
            routes.add_to(router, "/jobs")
            router.add_api_route("/live/sources", self.live_sources, methods=["GET"])
        else:  # v1 has only the status
            routes.add_status(router, f"/{jobs}")
        router.add_api_route("/models", self.models, methods=["GET"])
        router.add_api_route(f"/{balance}", self.balance, methods=["GET"])
        return router

    async def models(
        self, request: Request, limit: Limit = PAGE, page: Number = 1, inference_types: Types = "vid-upscale"
    ) -> Page[Model]:
        """List the models that can run here; empty before models are loaded for the first time."""
        available = [slug for slug in SLUGS.values() if slug.slug not in self._jobs.unavailable]
        upscales_videos = "vid-upscale" in inference_types.split(",")
        models = [schemas.model(slug, self._jobs.policy.limits) for slug in available] if upscales_videos else []
        url = (self._public_url or str(request.base_url)).rstrip("/") + request.url.path
        return schemas.page(models, url, limit=limit, number=page)

    async def live_sources(self) -> Data[list[LiveSource]]:
        """List the streams that a live job may name as its `live_source`, which the server then pulls."""
        return Data(data=[LiveSource(name=name) for name in self._jobs.policy.limits.live_sources])

    async def balance(self) -> Data[Balance]:
        """Return a constant: a self-hosted server charges nothing."""
        return Data(data=Balance())

    async def result(self, request: Request, name: str, expires: Expires = 0, signature: str = "") -> Response:
        """Send a result file, or a range of it, for a signed link."""
        if not self._links.holds(name, expires, signature):
            raise NotFoundError("the link is invalid or has expired; request the job's status again")
        kind = TYPES[name.rpartition(".")[2]]
        if kind == "image/jpeg" and (picture := await self._jobs.local_preview(name.rpartition(".")[0])):
            return Response(picture, media_type=kind)
        key = await self._jobs.key_of(name)
        size = await self._jobs.result_size(key)
        requested = request.headers.get("range") if request.method == "GET" else None
        byte_range = part(requested, size)
        if byte_range is None:
            return Response(None, 416, {"Content-Range": f"bytes */{size}"})
        start, end = byte_range
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        if single_range(requested):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if request.method == "HEAD":
            return Response(None, 200, headers)
        return Download(self._jobs.read_result(key, start, end), 206 if "Content-Range" in headers else 200, headers)

    async def health(self) -> Health:
        """Report that the process responds."""
        return Health(status="ok")

    async def ready(self) -> Response:
        """Report whether models are loaded and new jobs are accepted."""
        reason = self._jobs.unready
        if reason is not None:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(self) -> Response:
        """Serve the metrics for Prometheus."""
        text, kind = await self._metrics()
        return Response(text, media_type=kind)
