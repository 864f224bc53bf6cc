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


def record(path: Path, part: str, found: object) -> None:
    """Put what was found into the file under the name of this part; other parts that were measured here earlier stay."""
    kept: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"when": when, "machine": machine(), "versions": versions(), "results": {**kept, part: found}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def machine() -> Mapping[str, Any]:
    """The processor, how many CPUs this process may use, and bytes of memory."""
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.exists() else []
    name = next((row.split(":", 1)[1].strip() for row in rows if row.startswith("model name")), platform.machine())
    return {"cpu": name, "cpus": cpus(), "memory": psutil.virtual_memory().total}


def versions() -> Mapping[str, str]:
    """Of Python, and of the packages that are here and matter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory() -> int:
    """Bytes of main memory, the most this process has held so far; pages of a file count once for every mapping of it."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
