"""The probe of uploaded sources before their jobs are accepted: a few at once, every key in turn, each in a process of its own."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from upres.engine.core.errors import SourceError
from upres.engine.pipeline.advice import Clip, Measured
from upres.service.domain.errors import TooLargeError, UnavailableError
from upres.service.domain.fair_slots import FairSlots
from upres.service.domain.spec import Limits, Spec
from upres.service.execution.sandbox.confinement import Confinement
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.live import framing

from .process import SECONDS, Facts

T = TypeVar("T")
AT_ONCE = 4
START_SECONDS = 60.0  # for the first, which waits for the process that it is forked from
NO_PROCESS = (
    f"no process that opens media could be started within {START_SECONDS:g} s; see what the log says of it, and whether the "
    "system has memory and processes left"
)
TRIES = 2  # one that was killed may have been killed by another process's need of memory


class ProbeKilledError(Exception):
    """Raised when a probe's process could not be started, or ended or ran out of time without an answer."""


class Probe:
    """Probes sources in processes that it owns."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._server = ForkServer()
        self._slots = FairSlots(AT_ONCE, what="uploads wait to be looked at")

    async def __call__(self, path: Path, spec: Spec, owner: str) -> Facts:
        """Look at a source. SourceError where it is no video that can be read, TooLargeError where it exceeds the limits.

        Raises BusyError where too many wait, UnavailableError where its process could not start, or was killed, twice.
        """
        return await self._inspect(path, spec, owner, _facts)

    async def measure(self, path: Path, spec: Spec, owner: str) -> Clip:
        """Measure on a source what advice goes by; raises as a call does."""
        return await self._inspect(path, spec, owner, _clip, measured=True)

    async def _inspect(
        self, path: Path, spec: Spec, owner: str, read: Callable[[dict[str, Any]], T], *, measured: bool = False
    ) -> T:
        request = {"path": str(path), "spec": spec.as_json(), "limits": asdict(self._limits), "measured": measured}
        async with self._slots.slot(owner):
            for _ in range(TRIES):
                try:
                    return read(await self._ask({"inspect": request}))
                except ProbeKilledError:
                    continue
        raise UnavailableError(
            "the source could not be looked at: its probe could not start, was killed or took too long; try again later"
        )

    def start(self) -> None:
        """Start the process that probes are forked from ahead of the first."""
        self._server.start()

    async def confinement(self) -> Confinement:
        """Try what this system cuts a process off from; UnavailableError where no process can be started."""
        try:
            reply = await self._ask({"confine": {}}, START_SECONDS)
        except ProbeKilledError as error:
            raise UnavailableError(NO_PROCESS) from error
        return Confinement(network=reply.get("network") is True, files=reply.get("files") is True)

    def close(self) -> None:
        """End the processes."""
        self._server.close()

    async def _ask(self, request: dict[str, Any], seconds: float = SECONDS) -> dict[str, Any]:
        """Fork a process for a request, and return its reply; ProbeKilledError where there is none."""
        try:
            child = self._server.fork()  # takes no time; in a thread, a cancellation could lose it
        except OSError as error:
            raise ProbeKilledError from error
        try:
            async with asyncio.timeout(seconds):
                return await _exchange(child.end, request)
        except (TimeoutError, EOFError, OSError) as error:
            raise ProbeKilledError from error
        finally:
            child.kill()


async def _exchange(end: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    with end:
        reader, writer = await asyncio.open_unix_connection(sock=end)
        try:
            writer.write(framing.encoded(request))
            header, _ = await framing.read_message(reader, 0)
        finally:
            writer.transport.abort()
    return header


def _clip(reply: dict[str, Any]) -> Clip:
    """Read what was measured by a process that may have been taken over."""
    match reply.get("clip"):
        case {
            "height": int(height),
            "seconds": float() | int() as seconds,
            "measured": {"interlaced": float(interlaced), "blocks": float(blocks), "noise": float(noise)},
            "hdr": bool(hdr),
            "content": str(content),
        }:
            return Clip(height, seconds, content, Measured(interlaced, blocks, noise), hdr)
    _facts(reply)  # raises what is wrong with the source
    raise ProbeKilledError


def _facts(reply: dict[str, Any]) -> Facts:
    match reply:
        case {"facts": {"width": int(width), "height": int(height), "frames": int(frames)}}:
            return Facts(width, height, frames)
        case {"error": "TooLargeError", "text": str(text)}:
            raise TooLargeError(text)
        case {"error": str(), "text": str(text)}:
            raise SourceError(text)
        case _:
            raise ProbeKilledError
