"""Facts about the processor and this process's memory."""

import platform
import sys
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the name of the processor."""
    return _cpu_fact("model name") or platform.processor() or platform.machine()


def cpu_family() -> str:
    """Return the processor's family and model, which distinguish processors of the same name: `family 25 model 17`."""
    family, model = _cpu_fact("cpu family"), _cpu_fact("model")
    return f"family {family} model {model}" if family else platform.processor() or platform.machine()


def _cpu_fact(name: str) -> str:
    rows = CPU_FACTS.read_text().splitlines() if CPU_FACTS.exists() else []
    pairs = (row.split(":", 1) for row in rows if ":" in row)
    return next((value.strip() for key, value in pairs if key.strip() == name), "")


def peak_memory() -> int:
    """Return this process's peak memory in bytes; a page of a mapped file counts once for each mapping."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
