"""What a live socket sends of a log: each item as JSON, and bytes behind it where it has some."""

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
