"""ncnn on Vulkan, for networks on frames: GPUs of AMD, Intel, Apple and others. Only tested on Mesa's software Vulkan so far."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from upres.engine.machine import child

from .base import DeviceKind, cpus
from .ncnn_cpu import Ncnn, NcnnGraph

SOFTWARE = 3
"""Device type of a software implementation on the CPU; 0 to 2 are discrete, integrated and virtual GPUs."""


class NcnnVulkan:
    """The Vulkan GPU that ncnn prefers, in float32. The loader's VK_DRIVER_FILES variable restricts the available drivers."""

    name = "ncnn-vulkan"
    device: DeviceKind = "vulkan"
    preference = 0

    def unavailable(self) -> str | None:
        """Return why graphs cannot run on this machine, and what to do about it."""
        return Ncnn().unavailable() or devices_missing()

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that this machine supports, fastest first."""
        return ("fp32",)

    def load(self, path: Path, precision: str) -> NcnnGraph:
        """Load a graph. Raises ModelError unless it converts a frame to a frame."""
        return NcnnGraph(path, cpus(), vulkan=True)


@cache
def query() -> dict[str, Any]:
    """Query Vulkan once, in a separate process because a broken driver may crash; return `main`'s output or a "problem"."""
    return child.ask(__name__)


def drivers() -> list[str]:
    """Return the devices in ncnn's order, each with its driver's version and build; empty if Vulkan does not respond."""
    named: list[str] = query().get("drivers", [])
    return named


def devices_missing() -> str | None:
    """Return why Vulkan offers no GPU; None if it does."""
    result = query()
    if problem := result.get("problem"):
        return f"Vulkan does not respond: {problem}"
    devices: dict[str, int] = result["devices"]
    if not devices:
        return "no Vulkan driver is installed; install the GPU's (on Debian, for AMD and Intel: mesa-vulkan-drivers)"
    if set(devices.values()) == {SOFTWARE}:
        return f"Vulkan only offers the CPU ({', '.join(devices)}), which other runtimes use better; install the GPU's driver"
    return None


def main() -> None:
    """Print the names, types and drivers of all Vulkan devices as a line of JSON."""
    import ncnn

    infos = [ncnn.get_gpu_info(index) for index in range(ncnn.get_gpu_count())]
    types = {each.device_name(): each.type() for each in infos}
    builds = [
        f"{each.device_name()}, {each.driver_version()}, {bytes(each.pipeline_cache_uuid()).hex()}" for each in infos
    ]
    sys.stdout.write(json.dumps({"devices": types, "drivers": builds}) + "\n")


if __name__ == "__main__":
    main()
