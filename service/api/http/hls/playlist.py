"""HLS playlists as text: draft-pantos-hls-rfc8216bis, by section."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from upres.service.live.mime import codec_name

from .rendition import Part, Rendition, Segment

INDEX = "index.m3u8"
VERSION = 6  # required by EXT-X-MAP (section 8)
BACK = 3  # distance of players from the end, in part durations (4.4.3.8)
FIRST_BITS = 1_000_000  # bits per second, before anything is known


def multivariant(renditions: Mapping[str, Rendition]) -> str:
    """Return the multivariant playlist (4.4.6): the video, with all audio tracks as renditions of one group."""
    sounds = [name for name in renditions if name != "video"]
    codecs = ",".join(str(codec_name(renditions[name].track)) for name in ("video", *sounds[:1]))
    bits = sum(_bits(rendition) for rendition in renditions.values())
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for name in sounds:
        track = renditions[name].track
        language = f',LANGUAGE="{track.language}"' if track.language and track.language.isalnum() else ""
        chosen = ",DEFAULT=YES,AUTOSELECT=YES" if name == sounds[0] else ""
        lines.append(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="{name}"{language}{chosen},URI="{name}.m3u8"')
    sound = ',AUDIO="sound"' if sounds else ""
    lines += [f'#EXT-X-STREAM-INF:BANDWIDTH={bits},CODECS="{codecs}"{sound}', "video.m3u8"]
    return "\n".join(lines) + "\n"


def media(name: str, renditions: Mapping[str, Rendition], *, started_at: float, ended: bool) -> str:
    """Return the playlist of one track (4.4.2 to 4.4.5). started_at: Unix time of timestamp 0."""
    return "\n".join([*_lines(name, renditions, started_at=started_at, ended=ended), ""])


def _lines(name: str, renditions: Mapping[str, Rendition], *, started_at: float, ended: bool) -> Iterator[str]:
    rendition = renditions[name]
    back = BACK * max(each.part_target for each in renditions.values())
    yield from ("#EXTM3U", f"#EXT-X-VERSION:{VERSION}", f"#EXT-X-TARGETDURATION:{rendition.target}")
    yield f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={back:.3f}"
    yield f"#EXT-X-PART-INF:PART-TARGET={rendition.part_target:.3f}"
    yield f"#EXT-X-MEDIA-SEQUENCE:{rendition.segments[0].number if rendition.segments else rendition.whole}"
    if rendition.removed_breaks:
        yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{rendition.removed_breaks}"
    yield f'#EXT-X-MAP:URI="{name}-init.mp4"'
    for segment, parted in rendition.parted():
        if segment.parts:
            yield from _segment(name, segment, started_at, parted=parted)
    if ended:
        yield "#EXT-X-ENDLIST"
        return
    number, part = rendition.hinted
    yield f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{name}-{number}.{part}.mp4"'
    for other in renditions:
        if other != name and (newest := renditions[other].newest) >= (0, 0):
            yield f'#EXT-X-RENDITION-REPORT:URI="{other}.m3u8",LAST-MSN={newest[0]},LAST-PART={newest[1]}'


def _segment(name: str, segment: Segment, started_at: float, *, parted: bool) -> Iterator[str]:
    yield from ["#EXT-X-DISCONTINUITY"] * segment.breaks
    moment = datetime.fromtimestamp(started_at + segment.start, UTC).isoformat(timespec="milliseconds")
    yield f"#EXT-X-PROGRAM-DATE-TIME:{moment.replace('+00:00', 'Z')}"
    if parted:
        yield from _parts(name, segment.number, segment.parts)
    if segment.whole:
        yield f"#EXTINF:{segment.duration:.5f},"
        yield f"{name}-{segment.number}.mp4"


def _parts(name: str, segment: int, parts: Iterable[Part]) -> Iterator[str]:
    for number, part in enumerate(parts):
        independent = ",INDEPENDENT=YES" if part.independent else ""
        yield f'#EXT-X-PART:DURATION={part.duration:.5f},URI="{name}-{segment}.{number}.mp4"{independent}'


def _bits(rendition: Rendition) -> int:
    """Return the peak segment bit rate in bits per second (4.4.6.2)."""
    rates = [8 * each.size / each.duration for each in rendition.segments if each.whole and each.duration > 0]
    return round(max(rates, default=FIRST_BITS))
