"""Responses to a player's requests, sent once the content is available: draft-pantos-hls-rfc8216bis, 6.2.5 and 6.2.6."""

import math
import re

from fastapi import HTTPException, Response

from upres.service.domain.errors import NotFoundError

from . import playlist
from .packager import Packager
from .rendition import Rendition

BLOCKED = 3  # maximum wait of a request, in target durations
AHEAD = 2  # how many segments after the last may be requested
RESOURCE = re.compile(r"([a-z]{1,16}[0-9]{0,4})-(?:init|([0-9]{1,18})(?:\.([0-9]{1,9}))?)\.mp4")


async def answer(packager: Packager, name: str, msn: int | None, part: int | None) -> Response:
    """Return the named resource; raises NotFoundError, and HTTPException if a playlist is not available in time."""
    if name == playlist.INDEX:
        return _text(playlist.multivariant(packager.renditions))
    if name.endswith(".m3u8"):
        rendition = _rendition(packager, name.removesuffix(".m3u8"))
        await _wait_for(packager, rendition, msn, part)
        text = playlist.media(
            rendition.track.name, packager.renditions, started_at=packager.started_at, ended=packager.ended
        )
        return _text(text)
    if match := RESOURCE.fullmatch(name):
        track, number, place = match.groups()
        rendition = _rendition(packager, track)
        if number is None:
            return _media(rendition, rendition.track.init)
        return _media(rendition, await _chunks(packager, rendition, int(number), None if place is None else int(place)))
    raise NotFoundError(f"there is no resource {name[:40]}")


async def _wait_for(packager: Packager, rendition: Rendition, msn: int | None, part: int | None) -> None:
    """Wait until a playlist contains a segment, or a part of it or anything after that part."""
    if msn is None:
        if part is not None:
            raise HTTPException(400, "_HLS_part needs _HLS_msn")
        return
    if msn > rendition.newest[0] + AHEAD and not packager.ended:
        raise HTTPException(400, f"segment {msn} is too far ahead; the newest is {rendition.newest[0]}")
    if msn == rendition.newest[0] and part is not None and part > rendition.newest[1] + _parts_ahead(rendition):
        raise HTTPException(400, f"part {part} is too far ahead; the newest is {rendition.newest[1]}")

    def has() -> bool:
        return rendition.whole > msn if part is None else rendition.newest >= (msn, part)

    if not await packager.until(has, BLOCKED * rendition.target):
        raise HTTPException(503, f"segment {msn} is not available in time")


def _parts_ahead(rendition: Rendition) -> int:
    """Return how many parts after the last may be requested: three seconds of them, at least three."""
    return math.ceil(max(3.0, 3.0 / rendition.part_target))


async def _chunks(packager: Packager, rendition: Rendition, number: int, place: int | None) -> bytes:
    """Return the bytes of a segment or of one of its parts; waits for the next part."""
    if place is not None and (number, place) == rendition.hinted:
        await packager.until(lambda: rendition.hinted != (number, place), BLOCKED * rendition.target)
    segment = rendition.find(number)
    if segment is None or (place is None and not segment.whole):
        raise NotFoundError(f"there is no segment {number}")
    if place is None:
        parts = segment.parts
    elif place < len(segment.parts):
        parts = [segment.parts[place]]
    else:
        raise NotFoundError(f"there is no part {place} of segment {number}")
    return b"".join(chunk.data for each in parts for chunk in each.chunks)


def _rendition(packager: Packager, name: str) -> Rendition:
    if name not in packager.renditions:
        raise NotFoundError(f"there is no track {name[:20]}")
    return packager.renditions[name]


def _text(text: str) -> Response:
    return Response(text, media_type="application/vnd.apple.mpegurl", headers={"Cache-Control": "no-cache"})


def _media(rendition: Rendition, data: bytes) -> Response:
    kind = "video/mp4" if rendition.track.name == "video" else "audio/mp4"
    return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=60"})
