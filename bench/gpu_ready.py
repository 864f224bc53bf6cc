"""Check within seconds that this machine has what the other parts of bench/gpu.py need."""

import re
import time
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any

from gpu_networks import X2, choices, frames, load_choice, name_of, nothing_runs, upscale_one

from upres.engine.core.errors import ModelError
from upres.engine.machine import nvidia

if TYPE_CHECKING:
    from gpu import Options

OPTIONAL = ("torch", "cuda-core", "tensorrt-rtx")  # for the peaks and x4plus, the runtime cuda, and rtx


def ready(options: "Options") -> dict[str, Any]:
    """Run one small frame on every runtime and precision; "ready" is true if at least one of them runs.

    missing: packages that upres requires or that some parts use, and that are not installed.
    """
    results: dict[str, Any] = {}
    for choice in choices(X2, options.device):
        start = time.perf_counter()
        try:
            model = load_choice(X2, choice)
            upscale_one(model, frames(1, 64, 48)[0])
            results[name_of(choice)] = {"runs_on": model.report, "seconds": time.perf_counter() - start}
        except ModelError as error:
            results[name_of(choice)] = {"problem": str(error)}
        options.keep({"results": results})
    runs = any("runs_on" in each for each in results.values())
    why = {} if results else nothing_runs(options.device)
    return {
        "ready": runs,
        "missing": _missing(),
        "driver": nvidia.driver().problem or "there",
        "results": results,
        **why,
    }


def _missing() -> list[str]:
    names = [re.split(r"[^\w.-]", each)[0] for each in requires("upres") or () if "extra ==" not in each]
    return [name for name in (*names, *OPTIONAL) if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
