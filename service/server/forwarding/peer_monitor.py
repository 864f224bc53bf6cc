"""Monitoring of the other servers that share the work: the leader takes over the jobs of servers that are gone."""

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

from .peers import Peers

LOOKS = 5  # consecutive checks at which a server is late before it counts as gone: a renewal after a database outage takes less
AGAIN_SECONDS = 1.0  # between two attempts to subscribe to changes

logger = logging.getLogger(__name__)


class PeerMonitor:
    """The monitor of the other servers.

    lead: called once, when this server becomes the leader. incoming: the parent of each server's folder for uploads.
    """

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
        """Check the servers periodically and act on changes, indefinitely."""
        while True:
            try:
                await self._check_servers()
            except StoreError as error:
                # The database is unavailable, or another server has taken over, which the lease reports.
                self._late.clear()
                logger.warning("cannot check the other servers now: %s", error)
            await asyncio.sleep(RENEW_SECONDS)

    async def listen(self) -> None:
        """Wake the waiters of jobs that other servers change, indefinitely. Without this they poll."""
        while True:
            try:
                async with aclosing(self._standby.store.notices()) as notices:
                    async for request_id in notices:
                        self._jobs.on_change_notice(request_id)
                logger.warning("job changes are not received immediately: the connection is lost")
            except StoreError as error:
                logger.warning("%s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _check_servers(self) -> None:
        # List the folders before the servers: a folder created later belongs to a server in the list.
        folders = await asyncio.to_thread(self._folders)
        servers = await asyncio.to_thread(self._standby.store.servers)
        await self._peers.keep(servers.working)
        dead = self._dead(servers)
        unaware = servers.leader == self._standby.id and not self._standby.leads  # the response to its write was lost
        if servers.leader is None or servers.leader in dead or unaware:
            await self._standby.lead()
        if not self._standby.leads:
            return
        if not self._led:
            await self._lead()
            self._led = True
        await self._jobs.take_over(dead)
        for folder in folders:
            if folder.name not in servers.working | servers.late:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _dead(self, servers: Servers) -> frozenset[str]:
        """Return the servers that were late at enough consecutive checks."""
        self._late = Counter({server: self._late[server] + 1 for server in servers.late})
        return frozenset(
            server for server, looks in self._late.items() if looks >= LOOKS and server != self._standby.id
        )

    def _folders(self) -> list[Path]:
        try:
            return list(self._incoming.iterdir())
        except OSError:
            return []
