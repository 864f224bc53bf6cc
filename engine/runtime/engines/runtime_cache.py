"""What TensorRT for RTX compiles on a GPU when an engine first runs there, kept beside the engine for the next start."""

import logging
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # of what is kept for an engine; more is compiled again

logger = logging.getLogger(__name__)


class RuntimeCache:
    """One engine's. Without it a start only takes longer, so nothing about its file is an error.

    context: to run the engine in; None where there is no memory for it.
    """

    def __init__(self, engine: Any, file: Path) -> None:  # noqa: ANN401 - the package has no types
        """Take what an earlier run left in the file, as far as TensorRT finds it made for this GPU and driver, and by itself."""
        self._file = file
        self._config = engine.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        self._known = self._read()
        self._config.set_runtime_cache(self._cache)
        self.context = engine.create_execution_context(self._config)

    def keep(self) -> None:
        """Write what has been compiled by now, in place of what was kept for the same engine and any other driver."""
        compiled = bytes(memoryview(self._cache.serialize()))
        if compiled == self._known or len(compiled) > MOST_BYTES:
            return
        part = self._file.with_name(f"{self._file.name}.part")
        try:
            part.write_bytes(compiled)
            part.replace(self._file)
            for other in _files(self._file):
                other.unlink(missing_ok=True)
        except OSError as error:
            logger.info("what was compiled for %s is not kept: %s", self._file.name, error)

    def _read(self) -> bytes:
        try:
            kept = self._file.read_bytes() if self._file.stat().st_size <= MOST_BYTES else b""
        except OSError:
            return b""
        return kept if kept and self._cache.deserialize(kept) else b""


def is_kept(module: Any) -> bool:  # noqa: ANN401
    """Tell whether a package of the TensorRT family compiles on the GPU, and keeps that: TensorRT itself does not."""
    return hasattr(module, "IRuntimeCache")


def file_beside(engine: Path, sha256: str, driver: str | None) -> Path:
    """Name the file of an engine with these bytes on a driver of this version."""
    return engine.with_name(f"{engine.stem}.{sha256[:12]}-{driver or 'unknown'}.cache")


def _files(kept: Path) -> list[Path]:
    """List what was kept of the same engine by other builds and drivers: names that differ behind the engine's own."""
    stem, _, _ = kept.name.rpartition("-")[0].rpartition(".")
    return [each for each in kept.parent.glob("*.cache") if each != kept and each.name.startswith(f"{stem}.")]
