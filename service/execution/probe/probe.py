"""The probe of uploaded sources before acceptance: a few concurrently, round-robin over API keys, each in a separate process."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from upres.engine.core.errors import SourceError
from upres.engine.pipeline.advice import Clip, Measured
from upres.service.domain.errors import TooLargeError, TooSmallError, UnavailableError
from upres.service.domain.fair_slots import FairSlots
from upres.service.domain.spec import Limits, Spec
from upres.service.execution.sandbox.confinement import Confinement
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.live import framing

from .process import SECONDS, Facts

T = TypeVar("T")
AT_ONCE = 4
START_SECONDS = 60.0  # for the first probe, which waits for the fork parent to start
NO_PROCESS = (
    f"no process that opens media could be started within {START_SECONDS:g} s; check the log, and whether the "
    "system has memory and processes left"
)
TRIES = 2  # a probe may have been killed because another process needed memory


class ProbeKilledError(Exception):
    """Raised if a probe's process could not be started, or ended or timed out without a reply."""


class Probe:
    """Inspector of sources that owns the processes it uses."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._server = ForkServer()
        self._slots = FairSlots(AT_ONCE, waiters="uploads wait to be inspected")

    async def __call__(self, path: Path, spec: Spec, owner: str) -> Facts:
        """Inspect a source. SourceError if it is not a readable video or too small, TooLargeError if it exceeds limits.

        Raises BusyError if too many sources wait, UnavailableError if the process could not start or was killed twice.
        """
        return await self._inspect(path, spec, owner, _parse_facts)

    async def measure(self, path: Path, spec: Spec, owner: str) -> Clip:
        """Measure the properties of a source on which advice is based; raises the same errors as a call."""
        return await self._inspect(path, spec, owner, _parse_clip, measured=True)

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
            "the source could not be inspected: its probe could not start, was killed or took too long; try again later"
        )

    def start(self) -> None:
        """Start the process that probes are forked from, before the first probe."""
        self._server.start()

    async def confinement(self) -> Confinement:
        """Test from what this system can confine a process; UnavailableError if no process can be started."""
        try:
            reply = await self._ask({"confine": {}}, START_SECONDS)
        except ProbeKilledError as error:
            raise UnavailableError(NO_PROCESS) from error
        return Confinement(network=reply.get("network") is True, files=reply.get("files") is True)

    def close(self) -> None:
        """End the processes."""
        self._server.close()

    async def _ask(self, request: dict[str, Any], seconds: float = SECONDS) -> dict[str, Any]:
        """Fork a process for a request, and return its reply; ProbeKilledError if there is none."""
        try:
            child = self._server.fork()  # does not block; in a thread, a cancellation could leak the child
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


def _parse_clip(reply: dict[str, Any]) -> Clip:
    """Parse the measurements of a process that may be compromised."""
    match reply.get("clip"):
        case {
            "height": int(height),
            "seconds": float() | int() as seconds,
            "measured": {"interlaced": float(interlaced), "blocks": float(blocks), "noise": float(noise)},
            "hdr": bool(hdr),
            "content": str(content),
        }:
            return Clip(height, seconds, content, Measured(interlaced, blocks, noise), hdr)
    _parse_facts(reply)  # raises the source's error
    raise ProbeKilledError


def _parse_facts(reply: dict[str, Any]) -> Facts:
    match reply:
        case {"facts": {"width": int(width), "height": int(height), "frames": int(frames)}}:
            return Facts(width, height, frames)
        case {"error": "TooLargeError", "text": str(text)}:
            raise TooLargeError(text)
        case {"error": "TooSmallError", "text": str(text)}:
            raise TooSmallError(text)
        case {"error": str(), "text": str(text)}:
            raise SourceError(text)
        case _:
            raise ProbeKilledError
