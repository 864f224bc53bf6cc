"""The page of a live run in this process, served on a local port: all viewers see the same result, without extra inference."""

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from upres.engine.pipeline.progress import Progress
from upres.engine.segments.model import Fragment, Track
from upres.service.api.http.live.messages import message_of, progress_of
from upres.service.api.http.live.socket import HELLO_SECONDS, PATH
from upres.service.api.http.page import assets
from upres.service.domain.policy import LiveLogBounds
from upres.service.domain.waiting import wait_for
from upres.service.jobs.follow import MOST_LATE
from upres.service.live.piece import Piece
from upres.service.live.ring import Place, Ring

from .http_server import Http
from .settings import load

HOST = "127.0.0.1"
NAME = "live"  # the only stream that can be watched
IDLE_SECONDS = 60.0  # maximum time for which a viewer may read nothing
BEAT_SECONDS = 0.25  # between two progress messages
START_SECONDS = 60.0
POLL_SECONDS = 0.5  # so that Ctrl-C is noticed on all systems
CLOSING_SECONDS = 5.0  # maximum time for the viewers to receive the end of the result


class Preview:
    """The server of the page. progress: the run's. url: opens the page; contains a secret key.

    Any thread may push fragments. A viewer that is too slow misses some, and does not delay the run or other viewers. If the server
    ends early, the run continues.
    """

    def __init__(self, progress: Progress) -> None:
        self.url = ""
        self._progress = progress
        self._key = secrets.token_urlsafe()
        self._watched = threading.Event()
        self._viewers = set[asyncio.Task[Any]]()
        self._started: Future[tuple[asyncio.AbstractEventLoop, Ring, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="preview", daemon=True)

    def __enter__(self) -> "Preview":
        """Start to serve. Raises StoreError if no port is available."""
        self._thread.start()
        self._loop, self._ring, self._over = self._started.result(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until every viewer has received the end of the result, for a limited time, and stop the server."""
        with suppress(RuntimeError):  # its loop has ended already
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def wait_for_viewer(self, seconds: float) -> bool:
        """Wait until a viewer has opened the page; return whether one did so within this time."""
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            if self._watched.wait(min(left, POLL_SECONDS)):
                return True
        return self._watched.is_set()

    def push(self, tracks: Mapping[str, Track], fragment: Fragment, data: bytes) -> None:
        """Send a fragment of one of these tracks to the viewers."""
        self._submit(self._put(tracks[fragment.track], Piece(fragment, data)))

    def end(self) -> None:
        """Show the viewers that the stream has ended, after the fragments pushed before."""
        self._submit(self._end())

    def _submit(self, work: Coroutine[Any, Any, None]) -> None:
        """Start work on the server's event loop, in the order of the calls; do nothing if the server has ended."""
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()

    async def _put(self, track: Track, piece: Piece) -> None:
        if track.name not in self._ring.tracks:
            self._ring.add_track(track)
        await self._ring.put(piece)  # does not wait: nothing holds the ring back

    async def _end(self) -> None:
        self._ring.end()

    async def _serve(self) -> None:
        try:
            app = FastAPI(openapi_url=None)
            assets.mount(app)
            app.add_api_websocket_route(PATH, self._connect)
            settings = load(host=HOST, http_port=0, tls_certificate=None, tls_key=None)
            http = Http(settings, app)
            await http.start()
            bounds, over = LiveLogBounds(), asyncio.Event()
            ring = Ring(most_bytes=bounds.bytes, most_seconds=bounds.seconds, holds=False)
            self.url = f"http://{settings.address(http.port)}/#key={self._key}&watch={NAME}"
            self._started.set_result((asyncio.get_running_loop(), ring, over))
        except BaseException as error:
            self._started.set_exception(error)
            return
        await over.wait()
        ring.end()
        if self._viewers:
            await asyncio.wait(self._viewers, timeout=CLOSING_SECONDS)
        await http.stop()

    async def _connect(self, websocket: WebSocket) -> None:
        if (task := asyncio.current_task()) is not None:
            self._viewers.add(task)
            task.add_done_callback(self._viewers.discard)
        await websocket.accept()
        with suppress(WebSocketDisconnect, TimeoutError):
            if await self._knows_key(websocket):
                await self._send(websocket, {"accepted": {"request_id": NAME}})
                self._watched.set()
                await self._follow(websocket, Place(self._ring, most_late=MOST_LATE))
            else:
                await self._send(
                    websocket, {"error": {"message": "Open the address that upres has printed; it contains the key."}}
                )
            await websocket.close()

    async def _knows_key(self, websocket: WebSocket) -> bool:
        async with asyncio.timeout(HELLO_SECONDS):
            try:
                key = json.loads(await websocket.receive_text())["key"]
            except (ValueError, RecursionError, KeyError, TypeError):  # not JSON, or not an object with a key
                return False
        return isinstance(key, str) and secrets.compare_digest(key.encode(), self._key.encode())

    async def _follow(self, websocket: WebSocket, place: Place) -> None:
        """Send the fragments that a viewer has not seen, and the run's progress, to its end."""
        reported = 0.0
        while True:
            changed, ended = place.ring.changed, place.ring.ended
            item = place.next()
            if item is not None:
                await self._send(websocket, *message_of(item))
            if time.monotonic() > reported + BEAT_SECONDS or (ended and item is None):
                reported = time.monotonic()
                await self._send(websocket, {"progress": self._known("done" if ended else "processing")})
            if item is None:
                if ended:
                    return
                await wait_for(changed, BEAT_SECONDS)

    def _known(self, status: str) -> dict[str, Any]:
        progress = self._progress
        return progress_of(status, progress.as_json(), progress.warnings, late=progress.late)

    async def _send(self, websocket: WebSocket, header: dict[str, Any], data: bytes | None = None) -> None:
        """Send a message; TimeoutError if the viewer reads nothing for too long."""
        async with asyncio.timeout(IDLE_SECONDS):
            await websocket.send_text(json.dumps(header))
            if data is not None:
                await websocket.send_bytes(data)
