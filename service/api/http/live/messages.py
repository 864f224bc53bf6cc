"""Messages of a live socket: each item of a log as JSON, followed by its bytes, if any, and the job's progress."""

from collections.abc import Mapping, Sequence
from typing import Any

from upres.engine.segments.model import Track
from upres.service.live.mime import mime_type
from upres.service.live.piece import Dropped, Piece

Message = tuple[dict[str, Any], bytes | None]


def message_of(item: Track | Piece | Dropped) -> Message:
    """Return the message of an item: a track is followed by its header, a piece by its moof and mdat."""
    if isinstance(item, Track):
        start = float(item.start * item.time_base)
        facts = {"name": item.name, "codec": item.codec, "type": mime_type(item), "size": len(item.init)}
        return {"track": {**facts, "start_seconds": start}}, item.init
    fragment = item.fragment
    if isinstance(item, Dropped):
        return {"dropped": {"track": fragment.track, "frames": item.frames}}, None
    facts = {"track": fragment.track, "frames": fragment.frames, "independent": fragment.independent}
    return {"fragment": {**facts, "size": len(item.data)}}, item.data


def progress_of(
    status: str,
    report: Mapping[str, Any],
    notes: Sequence[str],
    *,
    late: float | None = None,
    error: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a job's progress for viewers. report: as from `Progress.as_json`, or empty. late: seconds, if live."""
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
