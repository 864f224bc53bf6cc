"""What a live socket sends: each item of a log as JSON, with bytes behind it where it has some, and how far its job is."""

from collections.abc import Mapping, Sequence
from typing import Any

from upres.engine.segments.model import Track
from upres.service.live.mime import mime_type
from upres.service.live.piece import Dropped, Piece

Message = tuple[dict[str, Any], bytes | None]


def message_of(item: Track | Piece | Dropped) -> Message:
    """Make the message of an item: of a track its header comes behind, of a piece its moof and mdat."""
    if isinstance(item, Track):
        start = float(item.start * item.time_base)
        seen = {"name": item.name, "codec": item.codec, "type": mime_type(item), "size": len(item.init)}
        return {"track": {**seen, "start_seconds": start}}, item.init
    fragment = item.fragment
    if isinstance(item, Dropped):
        return {"dropped": {"track": fragment.track, "frames": item.frames}}, None
    seen = {"track": fragment.track, "frames": fragment.frames, "independent": fragment.independent}
    return {"fragment": {**seen, "size": len(item.data)}}, item.data


def progress_of(
    status: str,
    report: Mapping[str, Any],
    notes: Sequence[str],
    *,
    late: float | None = None,
    error: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make the progress of a job as viewers see it. report: as of `Progress.as_json`, or empty. late: seconds, of a live one."""
    return {
        "status": status,
        "frames_in": report.get("frames_in", 0),
        "frames_out": report.get("frames_out", 0),
        "frames_dropped": report.get("frames_dropped", 0),
        "network": report.get("network"),
        "device": report.get("device"),
        "stage_seconds": report.get("seconds", {}),
        "late_seconds": late,
        "source_rate": report.get("rate"),
        "notes": list(notes),
        "error": error,
    }
