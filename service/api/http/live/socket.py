"""The live API for browsers: a WebSocket that accepts a live source and returns its log, or follows an existing live job.

The first message is JSON and contains the key, which must not be part of the URL: `{"key": …, "start": {"model": …}}` or
`{"key": …, "attach": REQUEST_ID}`. A client that starts a job then sends the source's bytes as binary messages, followed by
`{"end": true}`; if it names a `live_source`, the server pulls that instead. The responses are JSON; each `track` and `fragment`
is followed by one binary message: its header, or its moof and mdat.
"""

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from upres.engine.core.errors import UpresError
from upres.engine.encode.options import LIVE_PRESET
from upres.service.api.http.errors import response_of
from upres.service.api.http.forms import UpscaleForm
from upres.service.api.http.signed_links import Links
from upres.service.api.public_text import public
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import BusyError, InvalidError, SilentError, UnauthenticatedError
from upres.service.domain.request_id import checked_id
from upres.service.domain.spec import Spec
from upres.service.jobs.follow import follow_job
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job
from upres.service.telemetry.tracing import Tracing

from .messages import message_of, progress_of

PATH = "/api/v2/live"
HELLO_SECONDS = 10.0  # for the first message, which contains the key
MAX_UNAUTHENTICATED = 64  # maximum number of sockets without a key yet; one more ends the oldest
MAX_SOCKETS = 64  # per key
RECHECK_SECONDS = 10.0  # between two checks that the key is still valid
CLOSE_SECONDS = 5.0
DONE, FAILED, FOREIGN = 1000, 4000, 4403

logger = logging.getLogger(__name__)


class LiveSockets:
    """The live sockets of one server. origins: those besides the server's own whose pages may connect, `*` for any.

    idle_seconds: maximum time for which a client may read nothing. Pauses of a sender are limited elsewhere, with its source.
    """

    def __init__(
        self,
        jobs: Jobs,
        keys: Keys,
        quota: Quota,
        links: Links,
        *,
        origins: Sequence[str],
        idle_seconds: float,
        tracing: Tracing,
    ) -> None:
        self._tracing = tracing
        self._jobs = jobs
        self._links = links
        self._keys = keys
        self._quota = quota
        self._origins = origins
        self._idle_seconds = idle_seconds
        self._open: Counter[str] = Counter()
        self._unauthenticated: deque[asyncio.Timeout] = deque()

    def mount(self, app: FastAPI) -> None:
        """Add the route."""
        app.add_api_websocket_route(PATH, self.connect)

    async def connect(self, websocket: WebSocket) -> None:
        """Serve one client to its end; an error is sent as `{"error": …}` before the socket is closed."""
        if not self._allowed(websocket):
            await websocket.close(
                FOREIGN, "this origin is not allowed; the operator's setting cors_origins lists the allowed ones"
            )
            return
        code = DONE
        try:
            await websocket.accept()
            await self._serve(websocket)
        except (WebSocketDisconnect, TimeoutError) as error:
            logger.info("a viewer is gone: %r", error)
            code = FAILED
        except Exception as error:  # every error is reported to the client
            code = FAILED
            answer = json.loads(bytes(response_of(error).body))
            if isinstance(error, BusyError):
                answer["retry_seconds"] = error.retry_seconds
            with suppress(Exception):
                await self._send(websocket, {"error": answer})
        finally:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await websocket.close(code)

    def _allowed(self, websocket: WebSocket) -> bool:
        """Return whether a page of this origin may connect; clients other than browsers send no origin."""
        origin = websocket.headers.get("origin")
        if origin is None or {origin, "*"} & set(self._origins):
            return True
        with suppress(ValueError):  # not a URL
            return urlsplit(origin).netloc == websocket.headers.get("host", "")
        return False

    async def _serve(self, websocket: WebSocket) -> None:
        first = await self._first(websocket)
        owner = await self._owner(first.get("key"))
        self._quota.take(owner)
        if self._open[owner] >= MAX_SOCKETS:
            raise BusyError(f"this key has {MAX_SOCKETS} live sockets open; close one", retry_seconds=5)
        self._open[owner] += 1
        try:
            with self._tracing.request(
                f"WebSocket {PATH}", websocket.headers.getlist("traceparent"), {"http.route": PATH}
            ):
                await self._serve_job(websocket, first, owner)
        finally:
            self._open[owner] -= 1
            self._open += Counter()  # drops entries that are zero

    async def _serve_job(self, websocket: WebSocket, first: dict[str, Any], owner: str) -> None:
        starts = "start" in first
        if starts:
            job = (await self._jobs.create(_spec(first["start"]), owner))[0]
        else:
            job = await self._jobs.get(checked_id(str(first.get("attach", ""))), owner)
        await self._run(websocket, job, first.get("key"), sends=starts)

    async def _first(self, websocket: WebSocket) -> dict[str, Any]:
        """Wait for the first message: for some seconds, but only until too many other sockets wait for theirs."""
        try:
            async with asyncio.timeout(HELLO_SECONDS) as limit:
                self._unauthenticated.append(limit)
                if len(self._unauthenticated) > MAX_UNAUTHENTICATED:
                    self._unauthenticated.popleft().reschedule(0)
                try:
                    return _object(await websocket.receive_text())
                finally:
                    with suppress(ValueError):
                        self._unauthenticated.remove(limit)
        except TimeoutError as error:
            raise SilentError(f"the first message did not arrive within {HELLO_SECONDS:g} s") from error
        except KeyError as error:  # raised by Starlette for a binary message
            raise InvalidError({"message": ["The first message must be JSON text with `key`."]}) from error

    async def _owner(self, secret: object) -> str:
        owner = await asyncio.to_thread(self._keys.owner, secret) if isinstance(secret, str) else None
        if owner is None:
            raise UnauthenticatedError("Unauthenticated.")
        return owner

    async def _run(self, websocket: WebSocket, job: Job, secret: object, *, sends: bool) -> None:
        relay = self._jobs.live(job.request_id)
        receiving = asyncio.create_task(self._receive(websocket, job, sends=sends))
        sending = asyncio.create_task(self._follow(websocket, job, secret, holds=sends))
        try:
            await asyncio.wait((receiving, sending), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and not sending.done() and (error := receiving.exception()):
                await self._raise_unless_ended(error, job)
            await sending
        finally:
            for task in (receiving, sending):
                task.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)
            if sends and relay is not None:
                relay.end_source()
                relay.ring.release()

    async def _raise_unless_ended(self, error: BaseException, job: Job) -> None:
        """Raise the error that ended the source, unless the job has ended: then its last report shows the reason."""
        ended = isinstance(error, UpresError) and (await self._jobs.find(job.request_id)).state.ended
        if not ended:
            raise error

    async def _receive(self, websocket: WebSocket, job: Job, *, sends: bool) -> None:
        """Receive the source to its end. Raises WebSocketDisconnect if the client disconnects before the end."""
        offset = 0
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", DONE))
            if not sends:
                raise InvalidError({"message": ["A socket that follows a job must not send anything."]})
            if (data := message.get("bytes")) is not None:  # may be empty, as a recorder's last piece can be
                if job.spec.get("live_source") is not None:
                    raise InvalidError(
                        {"message": ["The server pulls this source; the socket that started it must not send one."]}
                    )
                offset = await self._jobs.write(job.request_id, offset, data)
            elif _object(message.get("text") or "").get("end"):
                await self._jobs.end_source(job.request_id)
                return
            else:
                raise InvalidError(
                    {"message": ['Messages after the first must be bytes of the source, or {"end": true}.']}
                )

    async def _follow(self, websocket: WebSocket, job: Job, secret: object, *, holds: bool) -> None:
        """Send the log as it grows; raises UnauthenticatedError soon after the key is revoked."""
        accepted = {"request_id": job.request_id, "model": job.spec["model"]}
        if self._jobs.live(job.request_id) is not None:
            accepted["hls"] = self._links.make_live("", job.request_id)
        await self._send(websocket, {"accepted": accepted})
        checked = time.monotonic()
        async with aclosing(follow_job(self._jobs, job, {}, holds=holds, watches=True)) as log:
            async for item in log:
                if time.monotonic() > checked + RECHECK_SECONDS:
                    await self._owner(secret)
                    checked = time.monotonic()
                message = ({"progress": self._progress(item)}, None) if isinstance(item, Job) else message_of(item)
                await self._send(websocket, *message)

    def _progress(self, job: Job) -> dict[str, Any]:
        report, relay = self._jobs.last_report(job.request_id) or job.totals, self._jobs.live(job.request_id)
        failure = job.state.failure
        return progress_of(
            job.state.status,
            report,
            [public(text) for text in report.get("warnings", ())],
            late=None if relay is None else relay.late,
            error=None if failure is None else {"reason": failure.reason, "message": public(failure.message)},
        )

    async def _send(self, websocket: WebSocket, header: dict[str, Any], data: bytes | None = None) -> None:
        """Send a message; TimeoutError if the client reads nothing for too long."""
        async with asyncio.timeout(self._idle_seconds):
            await websocket.send_text(json.dumps(header))
            if data is not None:
                await websocket.send_bytes(data)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidError({"message": ["The message must be JSON."]}) from error
    if not isinstance(value, dict):
        raise InvalidError({"message": ["The message must be a JSON object."]})
    return value


def _spec(values: object) -> Spec:
    """Return the spec of a live job from form fields; raises InvalidError for fields of the wrong type."""
    if not isinstance(values, dict):
        raise InvalidError({"start": ["`start` must be an object with the fields of an upscale."]})
    drops, stream, steps = values.get("when_slow", "wait"), values.get("live_source"), values.get("step_down", False)
    try:
        form = UpscaleForm.model_validate({name: value for name, value in values.items() if name != "video"})
    except ValidationError as error:
        raise InvalidError({str(each["loc"][0]): [each["msg"]] for each in error.errors()}) from error
    problems = form.problems()
    if stream is not None and not isinstance(stream, str):
        problems["live_source"] = ["The live_source must be text."]
    if drops not in ("wait", "drop"):
        problems["when_slow"] = ["The when_slow must be wait or drop."]
    if not isinstance(steps, bool):
        problems["step_down"] = ["The step_down must be true or false."]
    if problems:
        raise InvalidError(problems)
    return replace(
        form.spec(),
        preset=form.preset if isinstance(form.preset, str) else LIVE_PRESET,
        live=True,
        live_source=stream,
        when_slow=drops,
        step_down=steps,
        streamed=True,
        delivery="frames",
    )
