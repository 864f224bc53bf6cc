"""Which encoder started a log. It must also resume it, because a log cannot mix two encoders."""

from pathlib import Path

from upres.engine.core.errors import LogError
from upres.engine.segments.folder import FolderLog


def started_by_nvenc(log: Path) -> bool | None:
    """Return whether a GPU started a log; None if the log is empty or damaged."""
    try:
        began: bool | None = FolderLog.read_header(log).get("encoder", {}).get("nvenc")
    except (LogError, OSError):
        return None
    return began
