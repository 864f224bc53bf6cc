"""One server process: everything made, started, stopped in order."""

import asyncio
import logging
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
from fastapi import FastAPI
from filelock import FileLock, Timeout

from upres.engine.core.errors import SettingsError
from upres.service.api.http.middleware import protect
from upres.service.api.http.pusher import Pusher
from upres.service.api.http.routes import Web
from upres.service.api.http.signed_links import Links
from upres.service.api.http.submissions import Submissions
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import StoreError
from upres.service.execution.base import ExecutorOptions, make_executor
from upres.service.execution.probe import Probe
from upres.service.jobs.retention import keep_expiring
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results, keys
from upres.service.webhooks.deliveries import Deliveries
from upres.service.webhooks.dispatcher import Webhooks, url_problems
from upres.service.webhooks.egress import Allowed, Egress, Resolver

from .confinement import check_confinement
from .grpc_server import Endpoint
from .http_server import Http
from .metrics import Metrics
from .settings import Settings

READY_SECONDS = 0.05

logger = logging.getLogger(__name__)


class Server:
    """A running server. Raises StoreError where it cannot have its state folder, its database or its ports."""

    def __init__(self, settings: Settings, checkpoint: Callable[[str], None] = lambda step: None) -> None:
        try:
            settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(f"the state folder {settings.state} cannot be made ({error.strerror})") from error
        self._settings = settings
        self._lock = _locked(settings.state)
        self.store = Store(settings.database_url, checkpoint=checkpoint)
        self.keys = Keys(self.store)
        options = ExecutorOptions(
            workers=settings.workers,
            slots=settings.slots,
            live_slots=settings.live_slots,
            models=settings.models,
            runtime=settings.runtime,
            memory_bytes=settings.job_memory_bytes,
            quality=settings.quality,
        )
        executor = make_executor(settings.executor, options)
        policy = settings.policy
        self._probe = probe = Probe(policy.limits)
        probe.start()  # it imports while the rest is made
        self.jobs = Jobs(
            self.store,
            Results(settings.results_url),
            executor,
            policy,
            settings.state / "jobs",
            probe=probe,
            checkpoint=checkpoint,
        )
        quota = Quota(settings.requests_per_minute, settings.requests_per_day)
        self._grpc = Endpoint(self.jobs, self.keys, quota, settings.address(settings.grpc_port), _credentials(settings))
        secret = self.store.meta("link_secret", lambda: secrets.token_hex(32))
        self._links = Links(secret, settings.result_url_seconds)
        self._resolver = Resolver()
        self._egress = Egress(self._resolver, Allowed.parse(settings.webhook_http, settings.webhook_hosts))
        self._deliveries = Deliveries(self.store)
        self._webhooks = Webhooks(self._deliveries, self._egress.post, result_url=self._result_url)
        self._pusher = Pusher(
            self.jobs,
            self.keys,
            self._links,
            secret=self.store.meta("pusher_secret", lambda: secrets.token_hex(32)),
            public_url=settings.public_url,
            wait=partial(asyncio.sleep, settings.ping_seconds),
        )
        self._http = Http(settings, self._web(probe, quota))
        self._tasks: list[asyncio.Task[None]] = []

    def _web(self, probe: Probe, quota: Quota) -> FastAPI:
        settings = self._settings
        incoming = settings.state / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)  # what a crash left of uploads
        incoming.mkdir()
        submissions = Submissions(
            self.jobs,
            probe,
            upload_bytes=settings.upload_bytes,
            incoming=incoming,
            url_problems=partial(url_problems, self._egress),
        )
        metrics = Metrics(self.jobs, self._deliveries).told
        app = Web(self.jobs, self._links, submissions, public_url=settings.public_url, metrics=metrics).app()
        self._pusher.mount(app)
        protect(app, self.keys, quota, idle_seconds=settings.policy.source_idle_seconds, origins=settings.cors_origins)
        return app

    def _result_url(self, request_id: str) -> str:
        scheme = "https" if self._settings.tls_certificate else "http"
        base = self._settings.public_url or f"{scheme}://{self._settings.address(self.http_port)}"
        return self._links.make(base, keys(request_id)[0])

    @property
    def http_port(self) -> int:
        """Where HTTP listens."""
        return self._http.port

    @property
    def grpc_port(self) -> int:
        """Where gRPC listens."""
        return self._grpc.port

    def first_key(self) -> str | None:
        """The text of a key made because there was none; seen once. A key set by the operator is taken instead."""
        if self._settings.api_key is not None:
            self.keys.put("default", self._settings.api_key.get_secret_value())
            return None
        return None if self.keys.all() else self.keys.add("default")

    async def start(self) -> None:
        """Go on with what was accepted, and answer."""
        settings = self._settings
        check_confinement(await self._probe.confinement(), settings.host, allow_unconfined=settings.allow_unconfined)
        await self.jobs.start()
        await self._grpc.start()
        await self._http.start()
        expiring = keep_expiring(self.jobs, self._settings.keep_seconds)
        works = (self._announce(), expiring, self._webhooks.run(), self._pusher.run())
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self, grace: float) -> None:
        """Say so, finish what can be finished within the grace time, checkpoint the rest."""
        self.jobs.drain()
        await self._grpc.drain()
        try:
            async with asyncio.timeout(grace):
                await self.jobs.runner.idle()
        except TimeoutError:
            logger.warning("%d jobs go on after the next start", len(self.jobs.runner.news))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.stop()
        await self._grpc.stop(1.0)
        await self.jobs.stop()
        self.store.close()
        await asyncio.to_thread(self._probe.close)
        self._resolver.close()
        self._lock.release()

    async def _announce(self) -> None:
        while not self.jobs.ready:
            await asyncio.sleep(READY_SECONDS)
        await self._grpc.ready()


async def serve(
    settings: Settings, tell: Callable[[str], None], checkpoint: Callable[[str], None] | None = None
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal does not wait. tell: called with lines for the operator."""
    server = Server(settings, checkpoint or (lambda step: None))
    if key := server.first_key():
        tell(f"API key (shown once): {key}")
    async with _signals() as signalled:
        await server.start()
        tell(f"HTTP on {settings.address(server.http_port)}")
        tell(f"gRPC on {settings.address(server.grpc_port)}")
        await signalled.get()
        tell("stopping")
        stopping = asyncio.create_task(server.stop(settings.grace_seconds))
        again = asyncio.create_task(signalled.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            os._exit(1)  # nothing is lost: what was accepted goes on after the next start
        again.cancel()
        await stopping


@asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Queue[int]]:
    """Signals to stop, as they come."""
    came: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, came.put_nowait, number)
    try:
        yield came
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _locked(state: Path) -> FileLock:
    """The state folder is this server's alone, for as long as it lives."""
    lock = FileLock(state / "server.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"another server runs on {state}; stop it, or set UPRES_STATE to a folder of its own"
        ) from error
    return lock


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError("tls_certificate and tls_key go together; one of them is missing")
    try:
        return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    except OSError as error:
        raise SettingsError(f"{error.filename}: cannot be read for TLS ({error.strerror})") from error
