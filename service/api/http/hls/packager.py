"""Packaging of one live job for HLS players: the ring is read once, for all of them, into a rendition of each track.

Audio is cut where the video is, so it is held back until the video has reached it. Timestamps continue when a source is
interrupted; the gap is followed by a discontinuity in every track. The same applies after a time without players, during which
nothing is read or kept.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable

from upres.engine.encode.fragment import delayed
from upres.engine.segments.model import Fragment, Track
from upres.service.domain.waiting import wait_for
from upres.service.live.mime import codec_name
from upres.service.live.piece import Piece
from upres.service.live.ring import Place, Ring

from .rendition import Chunk, Rendition

LEAD_SECONDS = 1.0  # added to all timestamps: audio may start before 0, which a fragment cannot represent
HOLE_SECONDS = 1.0  # minimum gap that is followed by a discontinuity
BEAT_SECONDS = 10.0
IDLE_SECONDS = 60.0  # without requests, after which there are no players; longer than any request waits
SILENT_SEGMENTS = 2  # video segments after which announced audio is no longer waited for

logger = logging.getLogger(__name__)


class Packager:
    """The renditions of a job by track. segment_seconds: of the job. ended: nothing more will be added.

    started_at: Unix time of timestamp 0, approximately. changed: set when something is added.
    """

    def __init__(self, ring: Ring, segment_seconds: float) -> None:
        self.renditions: dict[str, Rendition] = {}
        self.ended = False
        self.started_at = 0.0
        self.changed = asyncio.Event()
        self._ring = ring
        self._segment_seconds = segment_seconds
        self._target = 0
        self._begin = math.inf  # of the video, in seconds
        self._end = -math.inf
        self._first = 0  # first video segment since the last request after a pause
        self._waiting: dict[str, deque[Chunk]] = {}
        self._video_segments: dict[str, int] = {}  # by audio track: the video segment of its newest chunk
        self._last_request = time.monotonic()
        self._requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, done: Callable[[], None]) -> None:
        """Start to read the ring. done: called when the job has ended, not earlier: segment numbers must not restart in a job."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: done())

    def ask(self) -> None:
        """Record a request by a player."""
        self._last_request = time.monotonic()
        self._requested.set()

    async def stop(self) -> None:
        """Stop without reading the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition holds or the job has ended; return False if neither happens within `seconds`."""
        end = time.monotonic() + seconds
        while not condition() and not self.ended:
            changed, remaining = self.changed, end - time.monotonic()
            if remaining <= 0:
                return False
            await wait_for(changed, remaining)
        return True

    @property
    def plays(self) -> bool:
        """Whether there is a complete video segment, without which players reject a playlist, and the audio.

        Players request the list of tracks once, so it waits for announced audio, but not for long: the audio may be silent.
        """
        whole = self.renditions["video"].whole - self._first if "video" in self.renditions else 0
        known = [name for name, track in self._ring.tracks.items() if codec_name(track) is not None]
        audio_known = all(name in self.renditions and self.renditions[name].segments for name in known)
        return whole > SILENT_SEGMENTS or (whole > 0 and audio_known)

    @property
    def _idle(self) -> bool:
        return time.monotonic() - self._last_request > IDLE_SECONDS

    async def _run(self) -> None:
        try:
            await self._read()
        except Exception as error:  # any error: a compromised attempt may have sent invalid data
            logger.warning("a live log cannot be packaged as HLS: %s", error)
        finally:
            self._finish()
        while not self._ring.ended:
            await wait_for(self._ring.changed, BEAT_SECONDS)
            if self._idle:
                self._clear()

    async def _read(self) -> None:
        """Read the ring to its end."""
        place = Place(self._ring)
        while True:
            changed, ended = self._ring.changed, self._ring.ended
            if self._idle and not ended:
                await self._wait_for_players()
            elif (item := place.next()) is None:
                self._notify()
                if ended:
                    return
                await wait_for(changed, BEAT_SECONDS)
            elif isinstance(item, Piece):
                self._add(item)

    async def _wait_for_players(self) -> None:
        """Read nothing until the next request or the end of the job."""
        self._clear()
        self._requested.clear()
        while self._idle and not self._ring.ended:
            await wait_for(self._requested, BEAT_SECONDS)

    def _clear(self) -> None:
        """Drop all media, but keep the segment numbers."""
        for rendition in self.renditions.values():
            rendition.clear()
        self._waiting.clear()
        self._begin = math.inf
        self._first = self.renditions["video"].whole if "video" in self.renditions else 0

    def _add(self, piece: Piece) -> None:
        fragment, track = piece.fragment, self._ring.tracks[piece.fragment.track]
        if codec_name(track) is None:  # HLS players do not support this codec
            return
        chunk = _on_timeline(piece, track)
        if track.name == "video":
            self._add_video(chunk, fragment)
        else:
            waiting = self._waiting.setdefault(track.name, deque())
            waiting.append(chunk)
            while sum(len(chunk.data) for chunk in waiting) > self._ring.most_bytes:  # the video is missing
                waiting.popleft()
        for name in self._waiting:
            self._add_audio(name)
        for rendition in self.renditions.values():
            rendition.shrink(self._ring.most_bytes)

    def _add_video(self, chunk: Chunk, fragment: Fragment) -> None:
        if "video" not in self.renditions:
            self.started_at = time.time() - self._ring.end_seconds
        video = self._rendition("video", chunk)
        if not video.segments and not chunk.independent:  # the first chunk must be one that a player can start with
            return
        hole = chunk.start - self._end > HOLE_SECONDS and chunk.independent
        opens = hole or (fragment.number == 0 and chunk.independent)
        self._begin = min(self._begin, chunk.start)
        breaks = int(hole and self._end > -math.inf)
        self._end = chunk.end
        video.add(chunk, opens=opens, breaks=breaks, closes=fragment.last)

    def _add_audio(self, name: str, *, all_of_it: bool = False) -> None:
        """Add the audio up to the end of the video."""
        waiting = self._waiting[name]
        while waiting and (waiting[0].start < self._end or all_of_it):
            chunk = waiting.popleft()
            if chunk.end <= self._begin:
                continue
            second = max(chunk.start, self._begin)
            sound, video_segment = self._rendition(name, chunk), self._segment(second)
            opens = video_segment != self._video_segments.get(name)
            self._video_segments[name] = video_segment
            sound.add(chunk, opens=opens, breaks=self._breaks(second) - sound.breaks if opens else 0)

    def _rendition(self, name: str, first: Chunk) -> Rendition:
        """Return a track's rendition; create it with its first chunk."""
        if name not in self.renditions:
            fragments = [piece.fragment for piece in self._ring.pieces() if piece.fragment.track == name]
            track = self._ring.tracks[name]
            durations = [first.duration, *(float(fragment.duration * track.time_base) for fragment in fragments)]
            self._target = self._target or _target(self._segment_seconds, max(durations))
            self.renditions[name] = Rendition(track, durations, self._target, self._breaks(first.start))
        return self.renditions[name]

    def _breaks(self, second: float) -> int:
        """Return the number of the video's discontinuities up to a time: they must have the same numbers in all tracks."""
        video = self.renditions.get("video")
        return 0 if video is None else video.breaks_before(second)

    def _segment(self, second: float) -> int:
        """Return the number of the video segment at a time, if it is still known; -1 without video."""
        video = self.renditions.get("video")
        return -1 if video is None else video.at(second)

    def _finish(self) -> None:
        for name in self._waiting:
            self._add_audio(name, all_of_it=True)
        for rendition in self.renditions.values():
            rendition.close()
        self.ended = True
        self._notify()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def _on_timeline(piece: Piece, track: Track) -> Chunk:
    """Return a fragment with its timestamps on the common timeline of all tracks, including those before 0."""
    fragment = piece.fragment
    lead = LEAD_SECONDS + float(track.start * track.time_base)
    data = delayed(piece.data, round(lead * _ticks_a_second(track.init)))
    start = float((fragment.pts + track.start) * track.time_base)
    return Chunk(data, start, float(fragment.duration * track.time_base), fragment.independent)


def _ticks_a_second(init: bytes) -> int:
    """Return the timescale of a track's media header (mdhd: ISO/IEC 14496-12, 8.4.2)."""
    at = init.index(b"mdhd") + 4
    at += 20 if init[at] else 12
    return int.from_bytes(init[at : at + 4], "big")


def _target(segment_seconds: float, longest: float) -> int:
    """Return the rounded maximum segment duration in seconds: the requested one plus a frame and an audio fragment."""
    return max(1, math.floor(segment_seconds + 1.5 * longest + 0.2 + 0.5))
