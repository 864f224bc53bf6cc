"""Who began to encode a log, which says who goes on with it: no log mixes two encoders."""

from pathlib import Path

from upres.engine.core.errors import LogError
from upres.engine.segments.folder import FolderLog


def nvenc_began(log: Path) -> bool | None:
    """Tell whether a GPU began to encode a log; None where nothing did, or the log is damaged."""
    try:
        began: bool | None = FolderLog.read_header(log).get("encoder", {}).get("nvenc")
    except (LogError, OSError):
        return None
    return began
