"""Cache of the code that TensorRT for RTX compiles on a GPU when an engine first runs, stored next to the engine."""

import logging
import os
import re
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # limit on an engine's cache file; larger results are recompiled at every start

logger = logging.getLogger(__name__)


class RuntimeCache:
    """Runtime cache of one engine. It only saves startup time, so problems with its file are not errors.

    context: execution context of the engine; None if memory is insufficient. was_loaded: whether an earlier run's cache is in use.
    """

    def __init__(self, engine: Any, file: Path) -> None:  # noqa: ANN401 - the package has no types
        """Load the file of an earlier run if TensorRT recognizes it as its own, for this GPU and driver."""
        self._file = file
        self._config = engine.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        self._known = self._read()
        self.was_loaded = bool(self._known)
        self._config.set_runtime_cache(self._cache)
        self.context = engine.create_execution_context(self._config)

    def keep(self) -> None:
        """Save the compiled code; delete caches of other builds of the engine, and partial files of runs that crashed."""
        compiled = bytes(memoryview(self._cache.serialize()))
        if compiled == self._known or len(compiled) > MOST_BYTES:
            return
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        try:
            part.write_bytes(compiled)
            part.replace(self._file)
            for stale in _stale(self._file):
                stale.unlink(missing_ok=True)
        except OSError as error:
            logger.info("the code compiled for %s could not be saved: %s", self._file.name, error)
        finally:
            part.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete the file, because results computed with it are wrong."""
        self._file.unlink(missing_ok=True)

    def _read(self) -> bytes:
        try:
            kept = self._file.read_bytes() if self._file.stat().st_size <= MOST_BYTES else b""
        except OSError:
            return b""
        return kept if kept and self._cache.deserialize(kept) else b""


def is_kept(module: Any) -> bool:  # noqa: ANN401
    """Report whether a package of the TensorRT family compiles on the GPU and can save the result; TensorRT cannot."""
    return hasattr(module, "IRuntimeCache")


def cache_file(engine: Path, sha256: str, gpu: str, driver: str | None) -> Path:
    """Return the cache file of an engine with this hash for a GPU of this name and a driver of this version."""
    on = re.sub("[^a-z0-9]+", "-", f"{gpu} {driver or 'unknown'}".lower())
    return engine.with_name(f"{engine.stem}.{sha256[:12]}.{on}.cache")


def _stale(kept: Path) -> list[Path]:
    """List the caches of other builds of the same engine, and partial files left by writers of this one.

    Caches for other GPUs and drivers are not listed, because machines may share a folder.
    """
    engine, build, _, _ = kept.name.rsplit(".", 3)
    builds = kept.parent.glob(f"{engine}.*.cache")
    parts = kept.parent.glob(f"{kept.name}.*.part")
    return [*(each for each in builds if not each.name.startswith(f"{engine}.{build}.")), *parts]
