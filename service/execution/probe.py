"""The probe of an uploaded source before its job is accepted, in a process of its own that a poison file may kill."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upres.engine.core.errors import SourceError, UpresError
from upres.engine.decode.reader import Reader
from upres.service.domain.errors import TooLargeError
from upres.service.domain.spec import FORMATS, Limits, Spec, check_source

from . import sandbox
from .environment import environment
from .worker_process import _end as end

SECONDS = 20.0
MEMORY_BYTES = 4 << 30
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What a look tells. frames: 0 where the container does not tell."""

    width: int
    height: int
    frames: int


class Probe:
    """Looks at sources, a few at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, path: Path, spec: Spec) -> Facts:
        """SourceError where it is no video that can be read, TooLargeError where it exceeds the limits."""
        order = json.dumps([str(path), spec.as_json(), asdict(self._limits)])
        async with self._turns:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "upres.service.execution.probe",
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=environment(),
            )
            try:
                async with asyncio.timeout(SECONDS):
                    answer, _ = await process.communicate(order.encode())
            except TimeoutError as error:
                raise SourceError(f"the source cannot be opened within {SECONDS:g} s") from error
            finally:
                await end(process)
        if process.returncode:
            raise SourceError("the source cannot be opened: reading it needs more than a decoder may use, or breaks it")
        match json.loads(answer):
            case {"error": "TooLargeError", "text": text}:
                raise TooLargeError(text)
            case {"error": _, "text": text}:
                raise SourceError(text)
            case facts:
                return Facts(**facts)


def look(path: str, spec: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Facts about a source, or what is wrong with it."""
    try:
        wanted = Spec.from_json(spec)
        with open(path, "rb") as file, Reader(file, formats=FORMATS, tonemap=wanted.tonemap) as reader:  # noqa: PTH123 - its path is told to nobody
            info = reader.info
            check_source(info, wanted, Limits(**limits))
            frames = info.frames or round((info.seconds or 0) * info.shape.rate)
            return asdict(Facts(info.shape.width, info.shape.height, frames))
    except UpresError as error:
        return {"error": type(error).__name__, "text": str(error)}


def main() -> None:
    """Take the order from stdin, put the answer on stdout."""
    sandbox.die_with_parent()
    sandbox.confine(memory_bytes=MEMORY_BYTES, cpu_seconds=round(SECONDS), file_bytes=0)
    path, spec, limits = json.load(sys.stdin)
    json.dump(look(path, spec, limits), sys.stdout)


if __name__ == "__main__":
    main()
