"""What was measured on this machine: for each network a table of runtimes, precisions and tile sizes, and the best of it.

`upres tune` writes a table, `runtime` auto reads it. A table of another machine, or of other versions, counts for nothing.
"""

import json
import os
import tempfile
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import platformdirs

from upres.engine.core.errors import TargetError, os_errors_as
from upres.engine.core.text import number
from upres.engine.machine import nvidia
from upres.engine.machine.host import cpu_name
from upres.engine.machine.packages import NVIDIA, RUNTIMES
from upres.engine.runtime import ncnn_vulkan
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.base import cpus

from .manifest import QUALITIES, serves
from .planar import COLORS_TOO
from .tiling import TILE_LIMIT

FORMAT = 2
LEAST = {"fp32": 80.0, "int8": 35.0}
"""dB that a precision reaches at least on the frame that is measured on, whose noise costs int8 more than video does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a network runs on. tile: pixels of a tile's longest side at most."""

    runtime: str
    precision: str
    tile: int = TILE_LIMIT


@dataclass(frozen=True, slots=True)
class Row:
    """What one choice did. report: what really ran. fps: frames a second. latency: seconds from a frame to its result.

    memory: bytes, of the device that it ran on. psnr: to ONNX Runtime's CPU in float32, in dB; None where nothing differs.
    estimated: from a part of the frame, since the whole one takes too long.
    """

    choice: Choice
    report: str
    fps: float
    latency: float
    memory: int
    psnr: float | None
    estimated: bool = False

    @property
    def right(self) -> bool:
        """Tell whether the result is as near to the reference as its precision makes it."""
        return self.psnr is None or self.psnr >= LEAST.get(self.choice.precision, QUALITIES["high"])

    def reaches(self, quality: str) -> bool:
        """Tell whether this is good enough for a quality: all that is right for fast, else what `serves` it as well."""
        return self.right and (quality == "fast" or serves(self.choice.precision, self.psnr, quality))


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured for a network on frames of width x height. failed: why a choice has no row, by its name."""

    network: str
    width: int
    height: int
    rows: tuple[Row, ...]
    failed: dict[str, str]
    when: str

    def usable(self) -> "Table":
        """Leave out the rows whose runtime cannot run any more: a driver or a package may be gone."""
        named = {row.choice.runtime for row in self.rows} & {*runtimes.names()}
        here = {name for name in named if runtimes.load(name).unavailable() is None}
        return replace(self, rows=tuple(row for row in self.rows if row.choice.runtime in here))

    def best(self, quality: str) -> Row | None:
        """Get the fastest of those that reach the quality; None where none does."""
        return max((row for row in self.rows if row.reaches(quality)), key=lambda row: row.fps, default=None)

    def why(self, row: Row) -> str:
        """Say why a row was taken, as a line for the user."""
        choice = row.choice
        return (
            f"runtime auto is {choice.runtime} in {choice.precision}, tiles up to {choice.tile}: the fastest of "
            f"{len(self.rows)} that `upres tune` measured here on {self.when[:10]}, {number(row.fps, 3)} frames a second at "
            f"{self.width}x{self.height}"
        )


def now() -> str:
    """Return the time as it stands in a table."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stamp() -> dict[str, Any]:
    """Describe what a table holds for: processor, CPUs, GPUs, and the versions of whatever runs graphs."""
    versions = {}
    for name in ("upres", *RUNTIMES, *NVIDIA):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    machine = {"cpu": cpu_name(), "cpus": cpus(), "gpus": list(nvidia.names()), "driver": nvidia.kernel_module()}
    return {"format": FORMAT, "machine": machine, "versions": versions}


def document(table: Table) -> dict[str, Any]:
    """Write a table out, with what it holds for; Vulkan is asked for its GPUs only where they were measured."""
    shown = {"vulkan": ncnn_vulkan.drivers()} if any(map(_on_vulkan, table.rows)) else {}
    return {**stamp(), **shown, **asdict(table)}


def _on_vulkan(row: Row) -> bool:
    return row.choice.runtime == ncnn_vulkan.NcnnVulkan.name


def path_of(network: str) -> Path:
    """Get where the table of a network is kept."""
    return platformdirs.user_state_path("upres") / "tuned" / f"{network}.json"


def write(table: Table) -> Path:
    """Keep a table, whole or not at all, in place of the one before; TargetError where it cannot be written."""
    path = path_of(table.network)
    with os_errors_as(path, TargetError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps(document(table), indent=2) + "\n")
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return path


def fresh(network: str) -> Table | None:
    """Read the table of a network; None where there is none, or not for this machine and these versions as they are now.

    Rows of Vulkan are left out where its GPUs or their drivers are others.
    """
    try:
        found = json.loads(path_of(network).read_text())
        if not found.items() >= stamp().items():
            return None
        rows = tuple(Row(**{**row, "choice": Choice(**row["choice"])}) for row in found["rows"])
        if any(map(_on_vulkan, rows)) and found.get("vulkan") != ncnn_vulkan.drivers():
            rows = tuple(row for row in rows if not _on_vulkan(row))
        return Table(found["network"], found["width"], found["height"], rows, found["failed"], found["when"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def pick(network: str, quality: str, resumed: Collection[str] = ()) -> tuple[Choice, str] | None:
    """Choose from the table of a network, and say why; None where there is no fresh one, or it has nothing for the quality.

    resumed: "NETWORK on REPORT" of a run that is resumed: what it ran on is taken again, however the table reads now.
    """
    table = fresh(network)
    if table is None or not (table := table.usable()).rows:
        return None
    resumed = {name.removesuffix(COLORS_TOO) for name in resumed}
    again = next((row for row in table.rows if f"{network} on {row.report}" in resumed), None)
    if again is not None:
        return again.choice, f"runtime auto is {again.choice.runtime}, as in the run that is resumed"
    best = table.best(quality)
    return None if best is None else (best.choice, table.why(best))
