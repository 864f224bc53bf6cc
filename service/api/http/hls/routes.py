"""The URLs of live jobs for HLS players: /live/JOB/TOKEN/index.m3u8, and the resources that the playlists refer to.

Players send no API key, so the URL contains a token, which is useless once the job has ended.
"""

import asyncio
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response

from upres.service.api.http.signed_links import LIVE, Links
from upres.service.domain.errors import NotFoundError
from upres.service.domain.request_id import checked_id
from upres.service.jobs.service import Jobs

from .answers import answer
from .packager import Packager

LINGER_SECONDS = 30.0  # for players to fetch the end
FIRST_SECONDS = 30.0  # for the first segment, once the job has started


class HlsRoutes:
    """The HLS routes of one server, with a packager per live job from the first request for it on."""

    def __init__(self, jobs: Jobs, links: Links) -> None:
        self._jobs = jobs
        self._links = links
        self._packagers: dict[str, Packager] = {}

    def mount(self, app: FastAPI) -> None:
        """Add the route."""
        path = f"{LIVE}{{request_id}}/{{token}}/{{name}}"
        app.add_api_route(path, self.get, methods=["GET", "HEAD"], include_in_schema=False)

    async def stop(self) -> None:
        """Stop every packager."""
        for packager in list(self._packagers.values()):
            await packager.stop()

    async def get(
        self,
        request_id: str,
        token: str,
        name: str,
        msn: Annotated[int | None, Query(alias="_HLS_msn", ge=0)] = None,
        part: Annotated[int | None, Query(alias="_HLS_part", ge=0)] = None,
    ) -> Response:
        """Send a playlist, a header, a segment or a part; waits for the next one. msn, part: as in section 6.2.5.2."""
        if not self._links.holds_live(request_id, token):
            raise NotFoundError("the address is invalid")
        packager = await self._packager(checked_id(request_id))
        packager.ask()
        await packager.until(lambda: packager.plays, FIRST_SECONDS)
        if not packager.plays:
            raise HTTPException(503, "the live job has produced no video yet")
        return await answer(packager, name, msn, part)

    async def _packager(self, request_id: str) -> Packager:
        """Return the job's packager, which the first request starts."""
        if request_id not in self._packagers:
            job = await self._jobs.find(request_id)
            relay = self._jobs.live(request_id)
            if relay is None:
                raise NotFoundError("the live job has ended")
            packager = Packager(relay.ring, job.spec["segment_seconds"])
            # A concurrent request may have been faster.
            if self._packagers.setdefault(request_id, packager) is packager:
                packager.start(lambda: self._forget(request_id))
        return self._packagers[request_id]

    def _forget(self, request_id: str) -> None:
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._packagers.pop, request_id, None)
