"""Progress of jobs over the Pusher protocol, versions 5 to 7: `GET /app/{key}`, and `POST /broadcasting/auth`.

A client receives the events of its API key's jobs on the channel `private-client.{client_id}`. A self-hosted server has no
accounts: client_id is the name of the API key (`default`, unless the operator named others). The app key in the URL is public and
only names the app; any value is accepted, so that clients of the hosted API need not be configured. A channel is opened with the
signature that `/broadcasting/auth` returns to the bearer of the API key; it is valid for one connection, which ends when the key is
revoked.

Events are read from the event log, in order, from the subscription on: no earlier ones, and none twice.
"""

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Form, Request, WebSocket
from starlette.exceptions import HTTPException

from upres.engine.core.errors import UpresError
from upres.service.auth.api_keys import Keys
from upres.service.domain.errors import InvalidError, NotFoundError
from upres.service.domain.states import Status
from upres.service.domain.waiting import wait_for
from upres.service.jobs.change_events import ANY
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Event
from upres.service.storage.results import file_names

from .forms import ChannelForm, FormRoute, Problem
from .pusher_socket import OVER_CAPACITY, UNAUTHORIZED, WRONG_VERSION, Connection, refuse
from .routes import BEARER
from .schemas import CHANNELS, Authorization, documented
from .signed_links import Links

KEY = "upres"
VERSIONS = ("5", "6", "7")  # the messages used here are the same in all versions
EVENT = "request.status.updated"
MAX_SOCKETS = 2000
STATUS_WORDS = {"processing": "processing", "progress": "in_progress", "done": "done"}  # by kind of event
SOCKET_ID = re.compile(r"\d{1,20}\.\d{1,20}", re.ASCII)
POLL_SECONDS = 10.0  # maximum delay of an event, or of a revoked key, that was not signalled

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """A job event for its owner's clients. joined: whether there is a result file."""

    event: Event
    owner: str
    joined: bool


class Pusher:
    """The progress sockets of one server. secret: known only to it. wait: returns when the next ping is due (contract: 30 s)."""

    def __init__(
        self,
        jobs: Jobs,
        keys: Keys,
        links: Links,
        *,
        secret: str,
        public_url: str | None,
        wait: Callable[[], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._keys = keys
        self._links = links
        self._secret = secret.encode()
        self._public_url = public_url
        self._wait = wait
        # Each with the base URL of its client's links, and the cursor of the newest event before it connected.
        self._connections: dict[str, tuple[Connection, str, int]] = {}
        self._cursor = 0

    def mount(self, app: FastAPI) -> None:
        """Add the two routes."""
        router = APIRouter(route_class=FormRoute, dependencies=[BEARER], redirect_slashes=False)
        responses = documented(401, 403, 413, 422, 429)
        router.add_api_route("/broadcasting/auth", self.auth, methods=["POST"], responses=responses)
        app.include_router(router)
        app.add_api_websocket_route("/app/{key}", self.connect)

    async def auth(self, request: Request, form: Annotated[ChannelForm, Form()]) -> Authorization:
        """Sign the caller's own channel for one connection; 403 for any other channel."""
        socket_id, channel = form.socket_id or "", form.channel_name or ""
        problems = {}
        if not channel or isinstance(channel, Problem):
            problems["channel_name"] = ["The channel name field is required."]
        if not SOCKET_ID.fullmatch(socket_id):
            problems["socket_id"] = ["The socket id must be two numbers with a dot between."]
        if problems:
            raise InvalidError(problems)
        if channel != CHANNELS + request.state.owner:
            raise HTTPException(403, "Forbidden.")
        return Authorization(auth=f"{KEY}:{self._sign(socket_id, channel)}")

    async def connect(self, websocket: WebSocket) -> None:
        """Serve one client until it disconnects."""
        await websocket.accept()
        if websocket.query_params.get("protocol") not in VERSIONS:
            known = ", ".join(VERSIONS)
            await refuse(websocket, WRONG_VERSION, f"Unsupported protocol version; this server speaks {known}")
            return
        if len(self._connections) >= MAX_SOCKETS and not self._make_room():
            await refuse(websocket, OVER_CAPACITY, "Over capacity")
            return
        url = websocket.url
        base = self._public_url or f"{'https' if url.scheme == 'wss' else 'http'}://{url.netloc}/"
        connection = Connection(websocket, wait=self._wait, allowed=self._allowed)
        try:
            newest = await self._jobs.newest_event()
        except UpresError:
            await refuse(websocket, OVER_CAPACITY, "The server is busy")
            return
        if not self._connections:  # no events were read in the meantime
            self._cursor = newest
        self._connections[connection.id] = connection, base, newest
        try:
            await connection.run()
        finally:
            self._connections.pop(connection.id, None)

    def _make_room(self) -> bool:
        """End the oldest connection without a channel, which needs no key; return False if there is none."""
        oldest = next((each for each, _, _ in self._connections.values() if not each.channels), None)
        if oldest is not None:
            del self._connections[oldest.id]
            oldest.end(OVER_CAPACITY, "Over capacity, and this connection has no channel")
        return oldest is not None

    async def run(self) -> None:
        """Send every event while there are clients, until cancelled."""
        while True:
            change = self._jobs.change(ANY)
            try:
                if self._connections:
                    await self._send_all()
            except UpresError:  # e.g. a full disk or a locked database, which may be temporary
                logger.exception("cannot read events; retrying")
            await wait_for(change, POLL_SECONDS)

    async def _send_all(self) -> None:
        """Send the events since the last call."""
        self._end_revoked(await asyncio.to_thread(self._keys.in_use))
        while events := await self._jobs.events(self._cursor):
            for event in events:
                await self._send(event)
                self._cursor = max(self._cursor, event.cursor)

    def _end_revoked(self, in_use: Set[str]) -> None:
        """Close the connections that receive the events of a revoked key."""
        allowed = {CHANNELS + name for name in in_use}
        for connection, _, _ in self._connections.values():
            if connection.channels - allowed:
                connection.channels.clear()
                connection.end(UNAUTHORIZED, "The API key is revoked")

    async def _send(self, event: Event) -> None:
        update = await self._update(event) if self._connections else None
        if update is None:
            return
        channel = CHANNELS + update.owner
        for connection, base, newest in self._connections.values():
            if event.cursor > newest and channel in connection.channels:
                connection.put(EVENT, self._data(update, base), channel)

    async def _update(self, event: Event) -> Update | None:
        """Return the update that an event causes for its job's owner, if any."""
        if event.kind not in STATUS_WORDS:
            return None
        try:
            job = await self._jobs.find(event.request_id)
        except NotFoundError:
            return None
        return Update(event, job.owner, joined=event.kind == Status.DONE and not job.spec.get("live"))

    def _data(self, update: Update, base: str) -> dict[str, Any]:
        event = update.event
        video, _ = file_names(event.request_id)
        return {
            "request_id": event.request_id,
            "status": STATUS_WORDS[event.kind],
            "preview": None,  # always null for video in the contract
            "result_url": self._links.make(base, video) if update.joined else None,
            "progress": f"{event.progress:.2f}",
        }

    def _allowed(self, socket_id: str, channel: str, auth: str) -> bool:
        if not channel.startswith(CHANNELS):
            return False
        return hmac.compare_digest(auth.encode(errors="replace"), f"{KEY}:{self._sign(socket_id, channel)}".encode())

    def _sign(self, socket_id: str, channel: str) -> str:
        return hmac.new(self._secret, f"{socket_id}:{channel}".encode(errors="replace"), sha256).hexdigest()
