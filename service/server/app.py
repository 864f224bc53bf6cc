"""One server: creates, starts and stops all its parts in order."""

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from functools import partial

import grpc
from fastapi import FastAPI
from starlette.types import ASGIApp

from upres.service.api.http.hls.routes import HlsRoutes
from upres.service.api.http.live.socket import LiveSockets
from upres.service.api.http.middleware import protect
from upres.service.api.http.pusher import Pusher
from upres.service.api.http.routes import Web
from upres.service.api.http.signed_links import Links
from upres.service.api.http.submissions import Submissions
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.auth.shared_quota import SharedQuota
from upres.service.domain.watched_tasks import WatchedTasks
from upres.service.execution.base import Executor, ExecutorOptions, make_executor
from upres.service.execution.probe.probe import Probe
from upres.service.execution.pull.puller import Puller
from upres.service.jobs.retention import keep_expiring
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job, Store
from upres.service.storage.results import Results, file_names
from upres.service.telemetry.setup import make_tracing
from upres.service.telemetry.tally import Telemetry
from upres.service.webhooks.deliveries import Deliveries
from upres.service.webhooks.dispatcher import Webhooks, url_problems
from upres.service.webhooks.egress import Allowed, Egress, Resolver

from .confinement_check import check_confinement
from .forwarded import Forwarded, Network, parse_networks
from .forwarding.look_ups import LookUps
from .forwarding.peer_monitor import PeerMonitor
from .forwarding.peers import Peers, Trust
from .forwarding.ports import Ports
from .forwarding.routing import Calls, JobRouter
from .forwarding.routing import Web as Routed
from .forwarding.stand_in import PEER_SECRET, new_secret
from .grpc_server import Services
from .metrics import Metrics
from .settings import Settings
from .standby import Standby, locked, make_state

UNREADY_CHECK_SECONDS = 0.05  # between two readiness checks while no new jobs are accepted
READY_CHECK_SECONDS = 1.0  # between two readiness checks while new jobs are accepted

logger = logging.getLogger(__name__)


class Server:
    """A server. Raises StoreError if its state folder, database or ports are unavailable.

    standby: its place among servers that share the database and, without an object store, the state folder; without it, both belong
    to this server alone.
    ports: its ports, if they are open already.
    """

    def __init__(
        self,
        settings: Settings,
        checkpoint: Callable[[str], None] = lambda step: None,
        standby: Standby | None = None,
        ports: Ports | None = None,
    ) -> None:
        make_state(settings.state)
        self._settings = settings
        self._telemetry = Telemetry(tracing=make_tracing(os.environ))
        self._failed: asyncio.Queue[str] = asyncio.Queue()
        self._tasks = WatchedTasks(self._on_failing)
        self._standby = standby
        self._lock = None if standby and not settings.store else locked(settings.state)
        self.store = standby.store if standby else Store(settings.database_url, checkpoint=checkpoint)
        if standby is None:
            self.store.keep_jobs_in(settings.store)
        self.keys = Keys(self.store)
        executor = make_executor(settings.executor, self._executor_options())
        self._probe = Probe(settings.policy.limits)
        self._probe.start()  # its imports run while the rest is created
        streams = {name: url.get_secret_value() for name, url in settings.live_sources.items()}
        self._puller = Puller(streams, allow_unconfined=settings.allow_unconfined)
        self._puller.start()
        self.jobs = self._make_jobs(executor, checkpoint)
        self._quota = quota = Quota(settings.requests_per_minute, settings.requests_per_day)
        secret = self.store.meta("link_secret", lambda: secrets.token_hex(32))
        self._links = Links(secret, settings.result_url_seconds)
        live_url = partial(self._links.make_live, settings.public_url or "")
        self._services = Services(self.jobs, self.keys, quota, live_url=live_url, telemetry=self._telemetry)
        self._ports = ports or Ports(settings)
        self._resolver = Resolver()
        self._egress = Egress(self._resolver, Allowed.parse(settings.webhook_http, settings.webhook_hosts))
        self._deliveries = Deliveries(self.store)
        self._webhooks = Webhooks(self._deliveries, self._egress.post, result_url=self._result_url)
        self._pusher = self._make_pusher()
        self._hls = HlsRoutes(self.jobs, self._links)
        self._incoming = settings.state / "incoming"
        self._handlers: Sequence[grpc.GenericRpcHandler] = self._services.handlers
        self._peer_monitor: PeerMonitor | None = None
        web, networks = self._web(quota), parse_networks(settings.trusted_proxies)
        self._app = Forwarded(web, networks) if standby is None else self._with_routing(standby, web, networks)

    def _make_jobs(self, executor: Executor, checkpoint: Callable[[str], None]) -> Jobs:
        settings = self._settings
        return Jobs(
            self.store,
            Results(settings.results_url),
            executor,
            settings.policy,
            settings.state / "jobs",
            probe=self._probe,
            pull=self._puller,
            checkpoint=checkpoint,
            on_failing=self._on_failing,
            telemetry=self._telemetry,
            kept=Results(settings.jobs_url, "job") if settings.jobs_url else None,
        )

    def _make_pusher(self) -> Pusher:
        settings = self._settings
        return Pusher(
            self.jobs,
            self.keys,
            self._links,
            secret=self.store.meta("pusher_secret", lambda: secrets.token_hex(32)),
            public_url=settings.public_url,
            wait=partial(asyncio.sleep, settings.ping_seconds),
        )

    def _executor_options(self) -> ExecutorOptions:
        settings = self._settings
        return ExecutorOptions(
            workers=settings.workers,
            slots=settings.slots,
            live_slots=settings.live_slots,
            models=settings.models,
            runtime=settings.runtime,
            memory_bytes=settings.job_memory_bytes,
            quality=settings.quality,
            preload=tuple(settings.preload),
            nvenc=settings.nvenc,
            folder=settings.state / "jobs",
            term=self._standby.term if self._standby is not None else 0,
            private=settings.store is not None,
            on_failing=self._on_failing,
        )

    def _web(self, quota: Quota) -> FastAPI:
        settings = self._settings
        incoming = self._incoming if self._standby is None else self._incoming / self._standby.id
        stale = incoming if self._lock is None else self._incoming  # a shared folder also holds other servers' uploads
        shutil.rmtree(stale, ignore_errors=True)  # partial uploads left by a crash
        incoming.mkdir(parents=True)
        submissions = Submissions(
            self.jobs,
            upload_bytes=settings.largest_upload,
            incoming=incoming,
            url_problems=partial(url_problems, self._egress),
        )
        metrics = Metrics(self.jobs, self._deliveries, self._telemetry.tally, settings.state).text
        app = Web(self.jobs, self._links, submissions, public_url=settings.public_url, metrics=metrics).app()
        self._pusher.mount(app)
        idle, origins = settings.policy.source_idle_seconds, settings.cors_origins
        tracing = self._telemetry.tracing
        LiveSockets(
            self.jobs, self.keys, quota, self._links, origins=origins, idle_seconds=idle, tracing=tracing
        ).mount(app)
        self._hls.mount(app)
        protect(
            app,
            self.keys,
            quota,
            idle_seconds=idle,
            origins=origins,
            upload_bytes=settings.largest_upload,
            check_room=self.jobs.check_room,
            telemetry=self._telemetry,
        )
        return app

    def _with_routing(self, standby: Standby, web: ASGIApp, networks: tuple[Network, ...]) -> Forwarded:
        """Wrap the application and the gRPC handlers so that requests about other servers' jobs are forwarded."""
        settings, secret = self._settings, self.store.meta(PEER_SECRET, new_secret)
        peers = Peers(standby.url, Trust.read(settings.peer_ca))
        router = JobRouter(LookUps(self.jobs.peer_owners), peers, secret)
        self._handlers = [Calls(self._handlers, router)]
        self._peer_monitor = PeerMonitor(standby, self.jobs, peers, self._lead, self._incoming)
        return Forwarded(Routed(web, router, settings.live_log_bytes), networks, secret)

    def _result_url(self, job: Job) -> str:
        """Return a link to a result that its submitter can open, based on the public URL or else on the URL of the request."""
        base = self._settings.public_url or job.base_url or self._settings.local_url(self.http_port)
        return self._links.make(base, file_names(job.request_id)[0])

    def _on_failing(self, name: str, error: Exception) -> None:
        self._failed.put_nowait(f"{name} keeps failing ({error})")

    async def failed(self) -> str:
        """Wait until the server cannot continue and return why: a part keeps failing, or another server has taken over."""
        return await self._failed.get()

    @property
    def http_port(self) -> int:
        """The port that HTTP listens on."""
        return self._ports.http_port

    @property
    def grpc_port(self) -> int:
        """The port that gRPC listens on."""
        return self._ports.grpc_port

    def first_key(self) -> str | None:
        """Create a key if there is none and return its text, which is shown once; if the operator has set a key, store that one."""
        if self._settings.api_key is not None:
            self.keys.put("default", self._settings.api_key.get_secret_value())
            return None
        return self.keys.add("default") if self.store.leads and not self.keys.all() else None

    async def start(self) -> None:
        """Resume accepted jobs and start to serve. If servers share the work, the leader resumes the jobs gradually."""
        settings = self._settings
        if self._standby is not None:
            scheduler = self.jobs.scheduler
            self._standby.start(scheduler.pause, scheduler.resume, self._failed.put_nowait)
        check_confinement(await self._probe.confinement(), settings.host, allow_unconfined=settings.allow_unconfined)
        await self.jobs.start()
        await self._services.announce(serving=False)
        await self._ports.open(self._app, self._handlers)
        self._tasks.start("readiness", self._announce)
        self._tasks.start("progress sockets", self._pusher.run)
        if self._peer_monitor is None:
            self._start_single()
        else:
            self._tasks.start("other servers", self._peer_monitor.run)
            self._tasks.start("requests at other servers", SharedQuota(self._quota, self.store).run)
            self._tasks.start("changes by other servers", self._peer_monitor.listen)

    async def _lead(self) -> None:
        """Start what only one server of a database may do."""
        await self.jobs.tidy()
        self._start_single()

    def _start_single(self) -> None:
        self._tasks.start("retention", lambda: keep_expiring(self.jobs, self._settings.keep_seconds))
        self._tasks.start("webhooks", self._webhooks.run)

    async def stop(self, grace: float) -> None:
        """Report not ready, finish what can be finished within `grace` seconds, and interrupt the rest."""
        self.jobs.drain()
        await self._services.drain()
        try:
            async with asyncio.timeout(grace):
                await self.jobs.scheduler.idle()
        except TimeoutError:
            logger.warning("%d jobs will be resumed at the next start", len(self.jobs.scheduler.attempts))
        await self._tasks.stop()
        await self._hls.stop()
        await self._ports.close()
        await self.jobs.stop()
        if self._standby is not None:
            await self._standby.stop()
        self.store.close()
        await asyncio.to_thread(self._probe.close)
        await asyncio.to_thread(self._puller.close)
        await asyncio.to_thread(self._telemetry.tracing.close)
        self._resolver.close()
        if self._lock is not None:
            self._lock.release()

    async def _announce(self) -> None:
        """Report readiness over gRPC whenever it changes: whether new jobs are accepted and processed."""
        announced = False
        while True:
            ready = self.jobs.ready
            if ready is not announced:
                announced = ready
                await self._services.announce(serving=ready)
            await asyncio.sleep(READY_CHECK_SECONDS if ready else UNREADY_CHECK_SECONDS)
