"""Registry of runtimes, and the choice of one. Packages register runtimes as entry points of the group `upres.runtimes`."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from upres.engine.core.errors import ModelError, SettingsError

from .base import Runtime

GROUP = "upres.runtimes"
AUTO = "auto"


def names() -> tuple[str, ...]:
    """Return the names a user may choose from, without loading any runtime."""
    return (AUTO, *sorted(_entries()))


def every() -> list[Runtime]:
    """Load all runtimes, available or not, in order of preference."""
    return sorted(map(load, _entries()), key=lambda runtime: runtime.preference, reverse=True)


def choose(name: str = AUTO) -> Runtime:
    """Return the runtime of this name, or the preferred one among those available.

    Raises SettingsError for an unknown name, and ModelError with the remedy if it cannot run on this machine.
    """
    if name not in names():
        raise SettingsError(f"unknown runtime {name!r}; there are: {', '.join(names())}")
    if name == AUTO:
        return _preferred()
    runtime = load(name)
    if reason := runtime.unavailable():
        raise ModelError(f"the runtime {name} cannot run here: {reason}")
    return runtime


def _preferred() -> Runtime:
    runtimes = [runtime for runtime in every() if runtime.preference > 0]
    for runtime in runtimes:
        if runtime.unavailable() is None:
            return runtime
    reasons = [f"{runtime.name}: {runtime.unavailable()}" for runtime in runtimes]
    raise ModelError(f"no runtime can run here ({'; '.join(reasons) or 'none is registered: install upres again'})")


def load(name: str) -> Runtime:
    """Load a runtime by its name, regardless of whether it can run on this machine."""
    runtime: Runtime = _entries()[name].load()()
    return runtime


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
