"""Measurements stored as JSON with the machine and the package versions; a file is extended part by part."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from upres.engine.machine.host import cpu_family, cpu_name
from upres.engine.runtime.base import cpus

PACKAGES = ("upres", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "torch", "tensorrt-rtx")


def record(path: Path, part: str, results: object) -> None:
    """Write the results of one part to the file, keeping the results of other parts."""
    kept: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"when": when, "machine": machine(), "versions": versions(), "results": {**kept, part: results}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def machine() -> Mapping[str, Any]:
    """Describe the machine: processor and its family, number of CPUs available to this process, bytes of memory."""
    return {"cpu": cpu_name(), "family": cpu_family(), "cpus": cpus(), "memory": psutil.virtual_memory().total}


def versions() -> Mapping[str, str]:
    """List the versions of Python and of those PACKAGES that are installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
