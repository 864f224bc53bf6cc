"""Measurements kept as JSON: what was measured, on which machine, with which versions; a file grows part by part."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from upres.engine.runtime.base import cpus

PACKAGES = ("upres", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt-rtx")


def record(path: Path, part: str, results: object) -> None:
    """Write the results of one part into the file, and keep those of other parts that are there."""
    kept: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"when": when, "machine": machine(), "versions": versions(), "results": {**kept, part: results}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def machine() -> Mapping[str, Any]:
    """Describe the machine: processor, CPUs that this process may use, bytes of memory."""
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.exists() else []
    name = next((row.split(":", 1)[1].strip() for row in rows if row.startswith("model name")), platform.machine())
    return {"cpu": name, "cpus": cpus(), "memory": psutil.virtual_memory().total}


def versions() -> Mapping[str, str]:
    """List the versions of Python and of those PACKAGES that are installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def peak_memory() -> int:
    """Return the most bytes of main memory that this process has used so far; a page of a file counts once for each mapping."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
