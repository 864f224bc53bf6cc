"""The video track of a log, from where it ends: pieces become fragments, each published once and never otherwise."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from upres.engine.core.errors import LogError
from upres.engine.segments.log import Fragment, Log, Track

from .fragment import mux
from .video import Piece


class Publisher:
    """complete: how many pictures lie in complete segments; the run goes on behind them.

    A segment that the log holds only in part is made anew, because its encoder is gone. Whoever follows the log has read what
    is there: the same pieces have to come again, and are not published again.
    """

    def __init__(self, log: Log, time_base: Fraction) -> None:
        self._log = log
        self._time_base = time_base
        found = log.fragments("video")
        ends = [number for number, fragment in enumerate(found, 1) if fragment.last]
        whole = ends[-1] if ends else 0
        self._whole, self._published = found[:whole], deque(found[whole:])
        self.complete = sum(fragment.frames for fragment in self._whole)
        self._segment, self._number, self._count = len(ends), 0, whole

    def resume_point(self, *, stateless: bool) -> int:
        """The number of the first frame that has to be enlarged (again): behind the complete segments, or at a shot before."""
        number = point = 0
        for fragment in self._whole:
            if fragment.shot:
                point = number
            number += fragment.frames
        if self._published and self._published[0].shot:
            point = number
        return number if stateless else point

    def publish(self, piece: Piece) -> Iterator[Fragment]:
        """Put a piece into the log and give its fragment; nothing where it was there.

        Raises LogError where it differs from what is there, or holds frames that are decoded before they are shown.
        """
        track, fragment, body = self._made(piece)
        self._log.add_track(track)
        if self._published:
            self._check(fragment, body)
            return
        yield self._log.append(fragment, body)

    def _made(self, piece: Piece) -> tuple[Track, Fragment, bytes]:
        start = self._log.tracks["video"].start if "video" in self._log.tracks else min(0, piece.pts)
        for packet in piece.packets:
            if packet.pts is None or packet.dts != packet.pts:
                raise LogError(
                    "the encoder reordered frames; the log holds none that are decoded before they are shown"
                )
            packet.pts = packet.dts = packet.pts - start
        frames, codec = len(piece.packets), piece.template.codec_context.name
        self._count += 1
        init, body = mux(piece.packets, piece.template, self._count)
        fragment = Fragment(
            "video",
            self._segment,
            self._number,
            piece.pts - start,
            piece.duration,
            frames,
            independent=piece.first,
            last=piece.last,
            shot=piece.shot,
        )
        self._segment, self._number = (self._segment + 1, 0) if piece.last else (self._segment, self._number + 1)
        return Track("video", codec, self._time_base, start, init), fragment, body

    def _check(self, fragment: Fragment, body: bytes) -> None:
        there = self._published.popleft()
        if there.cursor != fragment.cursor or self._log.read(there) != body:
            raise LogError(
                f"segment {there.segment} of the log is unfinished and comes out otherwise now; delete the log and start again"
            )
