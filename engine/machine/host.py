"""The processor, and the memory that this process has used."""

import platform
import sys
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Name the processor."""
    rows = CPU_FACTS.read_text().splitlines() if CPU_FACTS.exists() else []
    named = (row.split(":", 1)[1].strip() for row in rows if row.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def peak_memory() -> int:
    """Return the most bytes of main memory that this process has used so far; a page of a file counts once for each mapping."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
