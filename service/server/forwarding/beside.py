"""A server that works beside others: it sees which there are and, if it leads, takes over from those that are gone."""

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from upres.service.domain.errors import StoreError
from upres.service.jobs.service import Jobs
from upres.service.server.standby import Standby
from upres.service.storage.lease import RENEW_SECONDS, Servers

from .working import Peers

LOOKS = 5  # in a row at which a server is late before it is taken for gone: one renewal, when a database comes back, takes less
AGAIN_SECONDS = 1.0  # between two tries to hear of changes

logger = logging.getLogger(__name__)


class Beside:
    """lead: called once, when this server is the one that leads. incoming: a folder with one of each server for its uploads."""

    def __init__(
        self, standby: Standby, jobs: Jobs, peers: Peers, lead: Callable[[], Awaitable[None]], incoming: Path
    ) -> None:
        self._standby = standby
        self._jobs = jobs
        self._peers = peers
        self._lead = lead
        self._incoming = incoming
        self._late: Counter[str] = Counter()
        self._led = False

    async def run(self) -> None:
        """Look at the servers, and act on it, for as long as this task lives."""
        while True:
            try:
                await self._look()
            except StoreError as error:  # it is away, or another server has taken over, of which the lease tells
                self._late.clear()
                logger.warning("the other servers are not seen now: %s", error)
            await asyncio.sleep(RENEW_SECONDS)

    async def listen(self) -> None:
        """Wake who waits for changes of jobs as other servers make them, for as long as this task lives. Without it they poll."""
        while True:
            try:
                async with aclosing(self._standby.store.notices()) as notices:
                    async for request_id in notices:
                        self._jobs.on_change_notice(request_id)
                logger.warning("changes of jobs are not heard of as they happen: the connection is lost")
            except StoreError as error:
                logger.warning("%s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _look(self) -> None:
        folders = await asyncio.to_thread(
            self._folders
        )  # before: one that is made later belongs to a server that is seen
        servers = await asyncio.to_thread(self._standby.store.servers)
        await self._peers.keep(servers.working)
        gone = self._gone(servers)
        unaware = servers.leader == self._standby.id and not self._standby.leads  # the answer to what it wrote was lost
        if servers.leader is None or servers.leader in gone or unaware:
            await self._standby.lead()
        if not self._standby.leads:
            return
        if not self._led:
            await self._lead()
            self._led = True
        await self._jobs.take_over(gone)
        for folder in folders:
            if folder.name not in servers.working | servers.late:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _gone(self, servers: Servers) -> frozenset[str]:
        """Give the servers that were late often enough in a row."""
        self._late = Counter({server: self._late[server] + 1 for server in servers.late})
        return frozenset(
            server for server, looks in self._late.items() if looks >= LOOKS and server != self._standby.id
        )

    def _folders(self) -> list[Path]:
        try:
            return list(self._incoming.iterdir())
        except OSError:
            return []
