"""The progress of jobs over the Pusher protocol, version 7: `GET /app/{key}`, and `POST /broadcasting/auth` to be let in.

A client hears of the jobs of its API key on the channel `private-client.{client_id}`. On a server of one's own there are no
accounts: client_id is the name of the API key (`default`, unless the operator named others). The app key in the address is
public and only names the app; any is taken, so that clients of the hosted API need not learn another one. What opens a
channel is the signature that `/broadcasting/auth` gives to the bearer of the API key; it holds for one connection, which ends
when the key is revoked.

Events are read from the event log, in its order, from the moment of subscription on: nothing of before is told, and nothing twice.
"""

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from upres.engine.core.errors import UpresError
from upres.service.auth.api_keys import Keys
from upres.service.domain.errors import InvalidError, NotFoundError
from upres.service.domain.states import Status
from upres.service.domain.waiting import wait_for
from upres.service.jobs.change_events import ANY
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Event, Job
from upres.service.storage.results import keys

from . import forms
from .openapi import CHANNEL
from .pusher_socket import OVER_CAPACITY, UNAUTHORIZED, WRONG_VERSION, Connection, refuse
from .signed_links import Links

KEY = "upres"
VERSION = "7"
EVENT = "request.status.updated"
CHANNELS = "private-client."
MOST_SOCKETS = 2000
WORDS = {"processing": "processing", "progress": "in_progress", "done": "done"}  # of each kind of event that is told
SOCKET_ID = re.compile(r"\d{1,20}\.\d{1,20}", re.ASCII)
LOOK_SECONDS = 10.0  # the longest an event, or a key that was revoked, waits, where nobody says that there is one

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """What an event of a job has to tell. pictured: whether there is a preview by now. joined: whether there is a file."""

    event: Event
    owner: str
    pictured: bool
    joined: bool


class Pusher:
    """The sockets of one server. secret: known to it only. wait: until the next ping is due (the contract: 30 s)."""

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
        self._connections: dict[str, tuple[Connection, str]] = {}  # with the base of the links that its client can open
        self._cursor = jobs.store.newest()

    def mount(self, app: FastAPI) -> None:
        """Add the two routes."""
        app.add_api_route("/broadcasting/auth", self.auth, methods=["POST"], openapi_extra=CHANNEL)
        app.add_api_websocket_route("/app/{key}", self.connect)

    async def auth(self, request: Request) -> Response:
        """The signature that opens the caller's own channel to one connection; 403 for any other channel."""
        form = await forms.fields(request)
        try:
            names = ("socket_id", "channel_name")
            socket_id, channel = (value if isinstance(value := form.get(name), str) else "" for name in names)
        finally:
            await form.close()
        problems = {} if channel else {"channel_name": ["The channel name field is required."]}
        if not SOCKET_ID.fullmatch(socket_id):
            problems["socket_id"] = ["The socket id must be two numbers with a dot between."]
        if problems:
            raise InvalidError(problems)
        if channel != CHANNELS + request.state.owner:
            return JSONResponse({"message": "Forbidden."}, 403)
        return JSONResponse({"auth": f"{KEY}:{self._sign(socket_id, channel)}"})

    async def connect(self, websocket: WebSocket) -> None:
        """Serve one client until it goes."""
        await websocket.accept()
        if websocket.query_params.get("protocol") != VERSION:
            await refuse(websocket, WRONG_VERSION, f"Unsupported protocol version; this server speaks {VERSION}")
            return
        if len(self._connections) >= MOST_SOCKETS:
            await refuse(websocket, OVER_CAPACITY, "Over capacity")
            return
        url = websocket.url
        base = self._public_url or f"{'https' if url.scheme == 'wss' else 'http'}://{url.netloc}/"
        connection = Connection(websocket, wait=self._wait, allowed=self._allowed)
        self._connections[connection.id] = connection, base
        try:
            await connection.run()
        finally:
            del self._connections[connection.id]

    async def run(self) -> None:
        """Tell every event from now on, until cancelled."""
        while True:
            change = self._jobs.change(ANY)
            try:
                self._end_revoked(await asyncio.to_thread(self._keys.in_use))
                while found := await asyncio.to_thread(self._read):
                    for news in found:
                        self._tell(news)
            except (SQLAlchemyError, UpresError):  # a full disk, a locked database: it may pass
                logger.exception("events cannot be read; trying again")
            await wait_for(change, LOOK_SECONDS)

    def _end_revoked(self, in_use: Set[str]) -> None:
        """A connection that hears of a key's jobs ends, and hears nothing more, once the key is revoked."""
        allowed = {CHANNELS + name for name in in_use}
        for connection, _ in self._connections.values():
            if connection.channels - allowed:
                connection.channels.clear()
                connection.end(UNAUTHORIZED, "The API key is revoked")

    def _read(self) -> list[News | None]:
        """The next events of the log; None for one that has nothing to tell."""
        found = self._jobs.store.events(self._cursor)
        news = [self._news(event) if self._connections else None for event in found]
        self._cursor = found[-1].cursor if found else self._cursor
        return news

    def _news(self, event: Event) -> News | None:
        if event.kind not in WORDS:
            return None
        try:
            job: Job = self._jobs.store.get(event.request_id)
        except NotFoundError:
            return None
        joined = event.kind == Status.DONE and not job.spec.get("live")
        pictured = joined or self._jobs.folder(event.request_id).preview.exists()
        return News(event, job.owner, pictured, joined)

    def _tell(self, news: News | None) -> None:
        if news is None:
            return
        channel = CHANNELS + news.owner
        for connection, base in self._connections.values():
            if channel in connection.channels:
                connection.put(EVENT, self._data(news, base), channel)

    def _data(self, news: News, base: str) -> dict[str, Any]:
        event = news.event
        video, picture = keys(event.request_id)
        return {
            "request_id": event.request_id,
            "status": WORDS[event.kind],
            "preview": self._links.make(base, picture) if news.pictured else None,
            "result_url": self._links.make(base, video) if news.joined else None,
            "progress": f"{event.progress:.2f}",
        }

    def _allowed(self, socket_id: str, channel: str, auth: str) -> bool:
        if not channel.startswith(CHANNELS):
            return False
        return hmac.compare_digest(auth.encode(errors="replace"), f"{KEY}:{self._sign(socket_id, channel)}".encode())

    def _sign(self, socket_id: str, channel: str) -> str:
        return hmac.new(self._secret, f"{socket_id}:{channel}".encode(errors="replace"), sha256).hexdigest()
