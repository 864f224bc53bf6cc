"""Measurements of `upres tune` on this machine: for each network a table of runtimes, precisions and tile sizes.

`runtime` auto selects the best row of the table for frames of similar size. Tables from another machine or from other versions are
ignored.
"""

import json
import math
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
MIN_PSNR = {"fp32": 80.0, "int8": 35.0}
"""Minimum PSNR in dB of a precision on the frame used for measuring, whose noise degrades int8 more than video does."""
AREA_FACTOR = 4
"""Largest ratio between the areas of two frames of which one's measurements hold for the other."""
TYPICAL = 320, 180
"""Smallest frame whose measurements hold if the size is not known when models are loaded: smaller ones mostly measure overhead."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Way to run a network. tile: limit in pixels on a tile's longer side."""

    runtime: str
    precision: str
    tile: int = TILE_LIMIT


@dataclass(frozen=True, slots=True)
class Row:
    """Measurements of one choice. report: what actually ran. fps: frames per second. latency: seconds from a frame to its result.

    memory: bytes, on the device it ran on. psnr: against ONNX Runtime's CPU result in float32, in dB; None if identical.
    estimated: extrapolated from a part of the frame, because the whole frame would take too long.
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
        """Whether the result is as close to the reference as its precision allows."""
        return self.psnr is None or self.psnr >= MIN_PSNR.get(self.choice.precision, QUALITIES["high"])

    def reaches(self, quality: str) -> bool:
        """Report whether this satisfies a quality: for `fast` any correct result does, otherwise `serves` decides too."""
        return self.right and (quality == "fast" or serves(self.choice.precision, self.psnr, quality))


@dataclass(frozen=True, slots=True)
class Table:
    """Measurements of a network on frames of width x height. failed: by choice, why it has no row."""

    network: str
    width: int
    height: int
    rows: tuple[Row, ...]
    failed: dict[str, str]
    when: str

    def covers(self, frame: tuple[int, int] | None) -> bool:
        """Report whether the measurements hold for frames of a width and height; None if their size is not known yet."""
        area = self.width * self.height
        if frame is None:
            return area >= math.prod(TYPICAL)
        return area <= AREA_FACTOR * math.prod(frame) and math.prod(frame) <= AREA_FACTOR * area

    def usable(self) -> "Table":
        """Return the table without rows whose runtime is no longer available: a driver or package may have been removed."""
        names = {row.choice.runtime for row in self.rows} & {*runtimes.names()}
        available = {name for name in names if runtimes.load(name).unavailable() is None}
        return replace(self, rows=tuple(row for row in self.rows if row.choice.runtime in available))

    def best(self, quality: str) -> Row | None:
        """Return the fastest row that satisfies the quality, or None."""
        return max((row for row in self.rows if row.reaches(quality)), key=lambda row: row.fps, default=None)

    def why(self, row: Row) -> str:
        """Return a message for the user that explains why a row was chosen."""
        choice = row.choice
        return (
            f"runtime auto is {choice.runtime} in {choice.precision}, tiles up to {choice.tile}: the fastest of "
            f"{len(self.rows)} that `upres tune` measured here on {self.when[:10]}, {number(row.fps, 3)} frames a second at "
            f"{self.width}x{self.height}"
        )


def now() -> str:
    """Return the current time in the format of a table."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stamp() -> dict[str, Any]:
    """Return what a table is valid for: processor, CPUs, GPUs, and the versions of all packages that run graphs."""
    versions = {}
    for name in ("upres", *RUNTIMES, *NVIDIA):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    machine = {"cpu": cpu_name(), "cpus": cpus(), "gpus": list(nvidia.names()), "driver": nvidia.kernel_module()}
    return {"format": FORMAT, "machine": machine, "versions": versions}


def document(table: Table) -> dict[str, Any]:
    """Return a table as JSON values, with what it is valid for. Vulkan is queried for its GPUs only if they were measured."""
    vulkan = {"vulkan": ncnn_vulkan.drivers()} if any(map(_on_vulkan, table.rows)) else {}
    return {**stamp(), **vulkan, **asdict(table)}


def _on_vulkan(row: Row) -> bool:
    return row.choice.runtime == ncnn_vulkan.NcnnVulkan.name


def path_of(network: str) -> Path:
    """Return the path of a network's table."""
    return platformdirs.user_state_path("upres") / "tuned" / f"{network}.json"


def write(table: Table) -> Path:
    """Replace a network's table atomically. Raises TargetError if it cannot be written."""
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
    """Read the table of a network; None if there is none, or if it is not valid for this machine and the current versions.

    Vulkan rows are omitted if its GPUs or their drivers have changed.
    """
    try:
        stored = json.loads(path_of(network).read_text())
        if not stored.items() >= stamp().items():
            return None
        rows = tuple(Row(**{**row, "choice": Choice(**row["choice"])}) for row in stored["rows"])
        if any(map(_on_vulkan, rows)) and stored.get("vulkan") != ncnn_vulkan.drivers():
            rows = tuple(row for row in rows if not _on_vulkan(row))
        return Table(stored["network"], stored["width"], stored["height"], rows, stored["failed"], stored["when"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def decides(network: str, frame: tuple[int, int] | None) -> bool:
    """Report whether a valid table of a network holds for frames of a width and height. frame: as in `Table.covers`."""
    table = fresh(network)
    return table is not None and table.covers(frame)


def pick(
    network: str, quality: str, resumed: Collection[str] = (), frame: tuple[int, int] | None = None
) -> tuple[Choice, str] | None:
    """Choose from a network's table, and explain why. Return None if no valid table has a row that satisfies the quality.

    frame: width and height of the frames, for which the table has to hold, as in `Table.covers`.
    resumed: models of a run that is resumed, as "NETWORK on REPORT"; what they ran on is chosen again even if it is no longer best.
    """
    table = fresh(network)
    if table is None or not (table := table.usable()).rows:
        return None
    resumed = {name.removesuffix(COLORS_TOO) for name in resumed}
    previous = next((row for row in table.rows if f"{network} on {row.report}" in resumed), None)
    if previous is not None:
        return previous.choice, f"runtime auto is {previous.choice.runtime}, as in the run that is resumed"
    best = table.best(quality) if table.covers(frame) else None
    return None if best is None else (best.choice, table.why(best))
