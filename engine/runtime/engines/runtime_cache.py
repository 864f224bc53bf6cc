"""What TensorRT for RTX compiles on a GPU when an engine first runs there, kept beside the engine for the next start."""

import logging
import os
import re
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # of what is kept for an engine; more is compiled again

logger = logging.getLogger(__name__)


class RuntimeCache:
    """One engine's. Without it a start only takes longer, so nothing about its file is an error.

    context: to run the engine in; None where there is no memory for it. is_taken: it has what an earlier run left.
    """

    def __init__(self, engine: Any, file: Path) -> None:  # noqa: ANN401 - the package has no types
        """Take what an earlier run left in the file, as far as TensorRT finds it made for this GPU and driver, and by itself."""
        self._file = file
        self._config = engine.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        self._known = self._read()
        self.is_taken = bool(self._known)
        self._config.set_runtime_cache(self._cache)
        self.context = engine.create_execution_context(self._config)

    def keep(self) -> None:
        """Write what has been compiled by now; remove what was kept for other builds of the engine, and by runs that died."""
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
            logger.info("what was compiled for %s is not kept: %s", self._file.name, error)
        finally:
            part.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what was kept: results that it took part in are wrong."""
        self._file.unlink(missing_ok=True)

    def _read(self) -> bytes:
        try:
            kept = self._file.read_bytes() if self._file.stat().st_size <= MOST_BYTES else b""
        except OSError:
            return b""
        return kept if kept and self._cache.deserialize(kept) else b""


def is_kept(module: Any) -> bool:  # noqa: ANN401
    """Tell whether a package of the TensorRT family compiles on the GPU, and keeps that: TensorRT itself does not."""
    return hasattr(module, "IRuntimeCache")


def file_beside(engine: Path, sha256: str, gpu: str, driver: str | None) -> Path:
    """Name the file of an engine with these bytes on a GPU of this name, by a driver of this version."""
    on = re.sub("[^a-z0-9]+", "-", f"{gpu} {driver or 'unknown'}".lower())
    return engine.with_name(f"{engine.stem}.{sha256[:12]}.{on}.cache")


def _stale(kept: Path) -> list[Path]:
    """List what was kept of other builds of the same engine, and parts of this file that were left behind.

    What is of other GPUs and drivers stays: machines may share a cache.
    """
    engine, build, _, _ = kept.name.rsplit(".", 3)
    builds = kept.parent.glob(f"{engine}.*.cache")
    parts = kept.parent.glob(f"{kept.name}.*.part")
    return [*(each for each in builds if not each.name.startswith(f"{engine}.{build}.")), *parts]
