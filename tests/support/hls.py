"""A strict HLS playlist parser for draft-pantos-hls-rfc8216bis-22; a violation fails the test."""

import re
from dataclasses import dataclass, field

ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(?:,|$)')
SLACK = 1e-4  # tolerance for rounded durations


def attributes(text):
    """4.2"""
    pairs = ATTRIBUTE.findall(text)
    assert ",".join(f"{name}={value}" for name, value in pairs) == text
    assert len(dict(pairs)) == len(pairs)
    return {name: value.strip('"') for name, value in pairs}


@dataclass
class Segment:
    number: int
    breaks: int = 0
    date: str | None = None
    parts: list[dict[str, str]] = field(default_factory=list)
    duration: float | None = None
    uri: str | None = None


@dataclass
class Media:
    """A media playlist. open: the segment in progress, with its parts."""

    tags: dict[str, str]
    segments: list[Segment]
    open: Segment
    hint: dict[str, str] | None
    reports: list[dict[str, str]]
    ended: bool

    @property
    def parts(self):
        return [part for segment in (*self.segments, self.open) for part in segment.parts]

    @property
    def part_target(self):
        return float(attributes(self.tags["EXT-X-PART-INF"])["PART-TARGET"])

    @property
    def breaks(self):
        """Return the discontinuity sequence numbers by segment."""
        number, numbers = int(self.tags.get("EXT-X-DISCONTINUITY-SEQUENCE", 0)), []
        for segment in self.segments:
            number += segment.breaks
            numbers.append(number)
        return numbers


def media(text):
    lines = text.splitlines()
    assert text.endswith("\n") and lines[0] == "#EXTM3U" and lines.count("#EXTM3U") == 1  # 4.4.1.1
    tags, segments, hint, reports, ended = {}, [], None, [], False
    current = Segment(0)
    for line in lines[1:]:
        name, _, value = line[1:].partition(":") if line.startswith("#") else ("", "", "")
        if name == "EXT-X-PART":
            current.parts.append(attributes(value))
        elif name == "EXTINF":
            current.duration = float(value.removesuffix(","))
        elif name == "EXT-X-DISCONTINUITY":
            assert not current.parts  # 4.4.4.9
            current.breaks += 1
        elif name == "EXT-X-PROGRAM-DATE-TIME":
            assert not current.parts and current.date is None
            current.date = value
        elif name == "EXT-X-PRELOAD-HINT":
            assert hint is None  # 6.2.6: one of a type
            hint = attributes(value)
        elif name == "EXT-X-RENDITION-REPORT":
            reports.append(attributes(value))
        elif name == "EXT-X-ENDLIST":
            ended = True
        elif not line.startswith("#"):
            assert current.duration is not None and line  # 4.4.4.1
            current.uri = line
            segments.append(current)
            current = Segment(current.number + 1)
        else:
            assert name.startswith("EXT-X-") and name not in tags and not segments  # 4.4.3: before the first segment
            tags[name] = value
    first = int(tags["EXT-X-MEDIA-SEQUENCE"])
    for segment in (*segments, current):
        segment.number += first
    playlist = Media(tags, segments, current, hint, reports, ended)
    check(playlist)
    return playlist


def check(playlist, *, steady=True):
    target, part_target = int(playlist.tags["EXT-X-TARGETDURATION"]), playlist.part_target
    assert int(playlist.tags["EXT-X-VERSION"]) >= 6 and "URI" in attributes(playlist.tags["EXT-X-MAP"])  # section 8
    control = attributes(playlist.tags["EXT-X-SERVER-CONTROL"])
    assert (
        control["CAN-BLOCK-RELOAD"] == "YES" and float(control["PART-HOLD-BACK"]) >= 3 * part_target - SLACK
    )  # 4.4.3.8
    for segment in playlist.segments:
        assert int(segment.duration + 0.5) <= target  # 4.4.3.1
        if segment.parts:
            assert abs(sum(float(part["DURATION"]) for part in segment.parts) - segment.duration) < 10 * SLACK
    for segment in (*playlist.segments, playlist.open):
        for number, part in enumerate(segment.parts):
            duration, last = float(part["DURATION"]), segment.uri and number == len(segment.parts) - 1
            assert duration <= part_target + SLACK  # 4.4.4.9
            assert not steady or last or part.get("INDEPENDENT") == "YES" or duration >= 0.85 * part_target
    assert (playlist.hint is None) == playlist.ended  # 4.4.5.3
    if playlist.ended:
        assert not playlist.open.parts
    elif playlist.segments and playlist.segments[0].number:
        assert sum(segment.duration for segment in playlist.segments) >= 3 * target - 1  # 6.2.2


def follows(before, after):
    """Check what may change between two loads of a playlist: 6.2.1."""
    kept = ("EXT-X-TARGETDURATION", "EXT-X-PART-INF", "EXT-X-SERVER-CONTROL", "EXT-X-MAP", "EXT-X-VERSION")
    assert all(before.tags[name] == after.tags[name] for name in kept)
    assert int(after.tags["EXT-X-MEDIA-SEQUENCE"]) >= int(before.tags["EXT-X-MEDIA-SEQUENCE"])
    there = {segment.number: segment for segment in before.segments}
    numbers = dict(zip((segment.number for segment in before.segments), before.breaks, strict=True))
    for segment, breaks in zip(after.segments, after.breaks, strict=True):
        if old := there.get(segment.number):
            assert (old.uri, old.duration, old.date) == (segment.uri, segment.duration, segment.date)
            assert numbers[segment.number] == breaks
    old = before.open
    new = next((segment for segment in (*after.segments, after.open) if segment.number == old.number), None)
    assert new is None or new.parts[: len(old.parts)] == old.parts or not new.parts


class Player:
    """Plays one track to its end as in section 6.3.8: playlists by blocking reloads, parts by preload hints.

    get: fetches a URL relative to the playlist. parts: URIs and bytes in order. loads: the playlists loaded, each checked.
    """

    def __init__(self, get, name):
        self._get = get
        self._name = name
        self.parts = {}
        self.loads = []
        self.init = b""

    def follow(self, on_part=lambda uri: None):
        """Play to the end. on_part: called for each part once it is received."""
        self.load()
        self.init = self._get(attributes(self.loads[0].tags["EXT-X-MAP"])["URI"])
        while True:
            for part in self.loads[-1].parts:
                if part["URI"] not in self.parts:
                    self.parts[part["URI"]] = self._get(part["URI"])
                    on_part(part["URI"])
            if self.loads[-1].ended:
                return self
            hint = re.fullmatch(r".*-(\d+)\.(\d+)\.mp4", self.loads[-1].hint["URI"])
            self.load(f"?_HLS_msn={hint[1]}&_HLS_part={hint[2]}")

    def load(self, query=""):
        playlist = media(self._get(f"{self._name}.m3u8{query}").decode())
        if self.loads:
            follows(self.loads[-1], playlist)
        self.loads.append(playlist)
        return playlist

    @property
    def file(self):
        return self.init + b"".join(self.parts.values())
