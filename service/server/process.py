"""The server process: its turn among several servers, its stop signals, and the failures that end it."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .app import Server
from .forwarding.ports import Ports
from .forwarding.stand_in import StandIn
from .settings import Settings
from .standby import Standby

logger = logging.getLogger(__name__)


async def serve(
    settings: Settings, announce: Callable[[str], None], checkpoint: Callable[[str], None] | None = None
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends it at once. announce: called with lines for the operator."""
    checkpoint = checkpoint or (lambda step: None)
    async with _signals() as signalled:
        standby = ports = None
        if settings.several_servers:
            standby, ports = Standby.open(settings, checkpoint), Ports(settings)
            if not await StandIn(settings, standby, ports).has_turn(signalled, announce):
                return
        server = Server(settings, checkpoint, standby, ports)
        if key := server.first_key():
            announce(f"API key (shown once): {key}")
        await server.start()
        announce(f"HTTP on {settings.address(server.http_port)}")
        announce(f"gRPC on {settings.address(server.grpc_port)}")
        base = settings.public_url or settings.local_url(server.http_port)
        announce(f"page: {base.rstrip('/')}/{f'#key={key}' if key else ''}")
        await _signal_or_failure(signalled, server)
        announce("stopping")
        stopping = asyncio.create_task(server.stop(settings.grace_seconds))
        again = asyncio.create_task(signalled.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            os._exit(1)  # nothing is lost: accepted jobs are resumed at the next start
        again.cancel()
        await stopping


async def _signal_or_failure(signalled: asyncio.Queue[int], server: Server) -> None:
    """Wait for a signal. If a part of the server keeps failing, end the process, for a supervisor to restart it."""
    signal_ = asyncio.create_task(signalled.get())
    failure = asyncio.create_task(server.failed())
    done, _ = await asyncio.wait((signal_, failure), return_when=asyncio.FIRST_COMPLETED)
    if failure in done:
        logger.critical("%s; the process ends", failure.result())
        os._exit(1)
    failure.cancel()


@asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Queue[int]]:
    """Collect stop signals as they arrive."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
