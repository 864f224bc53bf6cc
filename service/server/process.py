"""The server's process: its turn among several servers, the signals that stop it, and what ends it by itself."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .app import Server
from .settings import Settings
from .standby import Standby

logger = logging.getLogger(__name__)


async def serve(
    settings: Settings, tell: Callable[[str], None], checkpoint: Callable[[str], None] | None = None
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal does not wait. tell: called with lines for the operator."""
    checkpoint = checkpoint or (lambda step: None)
    standby = Standby.open(settings, checkpoint) if settings.several_servers else None
    if standby is not None and not await _has_turn(standby, tell):
        return
    server = Server(settings, checkpoint, standby)
    if key := server.first_key():
        tell(f"API key (shown once): {key}")
    async with _signals() as signalled:
        await server.start()
        tell(f"HTTP on {settings.address(server.http_port)}")
        tell(f"gRPC on {settings.address(server.grpc_port)}")
        base = settings.public_url or settings.local_url(server.http_port)
        tell(f"page: {base.rstrip('/')}/{f'#key={key}' if key else ''}")
        await _signal_or_failure(signalled, server)
        tell("stopping")
        stopping = asyncio.create_task(server.stop(settings.grace_seconds))
        again = asyncio.create_task(signalled.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            os._exit(1)  # nothing is lost: what was accepted is resumed by the next start
        again.cancel()
        await stopping


async def _has_turn(standby: Standby, tell: Callable[[str], None]) -> bool:
    """Stand by until no other server works; False where a signal ends this one before."""
    async with _signals() as signalled:
        turn = asyncio.create_task(standby.wait(tell))
        signal_ = asyncio.create_task(signalled.get())
        await asyncio.wait((turn, signal_), return_when=asyncio.FIRST_COMPLETED)
        signal_.cancel()
        if turn.done():
            await turn
            return True
        turn.cancel()
        await standby.stop()
        standby.store.close()
        return False


async def _signal_or_failure(signalled: asyncio.Queue[int], server: Server) -> None:
    """Wait for a signal; end the process where a part of it cannot be kept alive, for a supervisor to start it again."""
    signal_ = asyncio.create_task(signalled.get())
    failure = asyncio.create_task(server.failed())
    done, _ = await asyncio.wait((signal_, failure), return_when=asyncio.FIRST_COMPLETED)
    if failure in done:
        logger.critical("%s; the process ends", failure.result())
        os._exit(1)
    failure.cancel()


@asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Queue[int]]:
    """Collect signals to stop, as they come."""
    came: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, came.put_nowait, number)
    try:
        yield came
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
