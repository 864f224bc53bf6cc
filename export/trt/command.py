"""The command `upres export NETWORK --target`, which builds engines."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import SettingsError
from upres.engine.machine.cache import cache_folder
from upres.engine.machine.nvidia import driver
from upres.engine.models.catalog import SLUGS
from upres.engine.models.flashvsr.manifest import folder_of
from upres.engine.runtime.engines.manifest import Target

from . import builder as builders
from . import flashvsr_engines, frame_engines
from .engine import Engine

PRECISIONS = ("fp32", "fp16")
FLASHVSR = "flashvsr-v1.1-tiny"
SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@dataclass(frozen=True, slots=True)
class Request:
    """The options. size: WxH. capability: of the GPUs that will run the engines, such as SM89; None for the local GPU."""

    model: str
    target: Target
    precision: str
    size: str | None
    capability: str | None = None
    out: Path | None = None

    @property
    def command(self) -> str:
        """The command line that rebuilds these engines."""
        options = {
            "target": self.target,
            "precision": self.precision,
            "size": self.size,
            "capability": self.capability,
            "out": self.out,
        }
        words = [word for name, value in options.items() if value for word in (f"--{name}", str(value))]
        return shlex.join(["upres", "export", self.model, *words])


def build(request: Request) -> Iterator[Engine]:
    """Build the engines of a model.

    Raises SettingsError listing every wrong option, and ModelError if the model or the builder is not installed.
    """
    network = SLUGS[request.model].networks[0] if request.model in SLUGS else request.model
    size = _size(request, needed=network != FLASHVSR)
    builder = builders.find(request.target, driver(), request.capability)
    out = request.out or cache_folder() / "engines"
    if network == FLASHVSR:
        folder = folder_of(network, request.precision)
        yield from flashvsr_engines.build_engines(folder, out, builder=builder, command=request.command, size=size)
    elif size:
        yield from frame_engines.build_engines(
            network, *size, out, precision=request.precision, builder=builder, command=request.command
        )


def _size(request: Request, *, needed: bool) -> tuple[int, int] | None:
    problems = []
    if request.precision not in PRECISIONS:
        problems.append(f"engines are built in {' or '.join(PRECISIONS)}, not in {request.precision}")
    match = SIZE.fullmatch(request.size or "")
    if match is None and (request.size or needed):
        problems.append(f"--target needs --size WxH, the size of the frames, such as 1280x720; got {request.size}")
    if problems:
        raise SettingsError("; ".join(problems))
    return (int(match[1]), int(match[2])) if match else None
