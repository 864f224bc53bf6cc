"""The video track of a log: appends encoded pieces as fragments, each published once and never changed."""

from collections import deque
from fractions import Fraction

from upres.engine.core.errors import LogError
from upres.engine.core.frame import Light
from upres.engine.segments.model import Fragment, Track

from .encoder import Piece
from .fragment import mux, with_light
from .publisher import Publisher


class VideoTrack:
    """Appends pieces of encoded video to a log, after the segments that it already holds.

    A segment that the log holds only in part is encoded again, because its encoder is gone. Readers of the log may have seen its
    fragments already, so the new ones must be identical, and are not published a second time.
    complete: number of frames in complete segments, after which the run resumes. light: of high dynamic range, for the header.
    """

    def __init__(self, publisher: Publisher, time_base: Fraction, light: Light | None = None) -> None:
        self._publisher = publisher
        self._log = publisher.log
        self._time_base = time_base
        self._light = light
        fragments = self._log.fragments("video")
        ends = [number for number, fragment in enumerate(fragments, 1) if fragment.last]
        whole = ends[-1] if ends else 0
        self._whole, self._unfinished = fragments[:whole], deque(fragments[whole:])
        self.complete = sum(fragment.frames for fragment in self._whole)
        self._segment, self._number, self._count = len(ends), 0, whole

    def resume_point(self, *, stateless: bool) -> int:
        """Return the number of the first frame to upscale: after the complete segments, or at the last shot before their end.

        stateless: the models have no memory, so that upscaling need not start at a shot.
        """
        number = point = 0
        for fragment in self._whole:
            if fragment.shot:
                point = number
            number += fragment.frames
        if self._unfinished and self._unfinished[0].shot:
            point = number
        return number if stateless else point

    def push(self, piece: Piece) -> None:
        """Publish a piece unless the log has it already.

        Raises LogError if it differs from the one in the log, or contains reordered frames.
        """
        track, fragment, body = self._muxed(piece)
        if self._unfinished:
            self._log.add_track(track)
            self._check(fragment, body)
        else:
            self._publisher.publish(track, fragment, body)

    def _muxed(self, piece: Piece) -> tuple[Track, Fragment, bytes]:
        start = self._log.tracks["video"].start if "video" in self._log.tracks else min(0, piece.pts)
        for packet in piece.packets:
            if packet.pts is None or packet.dts != packet.pts:
                raise LogError("the encoder reordered frames; the log requires frames in presentation order")
            packet.pts = packet.dts = packet.pts - start
        frames = len(piece.packets)
        independent = piece.packets[0].is_keyframe
        self._count += 1
        init, body = mux(piece.packets, piece.template, self._count, piece.container)
        fragment = Fragment(
            "video",
            self._segment,
            self._number,
            piece.pts - start,
            piece.duration,
            frames,
            independent=independent,
            last=piece.last,
            shot=piece.shot,
        )
        self._segment, self._number = (self._segment + 1, 0) if piece.last else (self._segment, self._number + 1)
        return Track("video", piece.codec, self._time_base, start, with_light(init, self._light)), fragment, body

    def _check(self, fragment: Fragment, body: bytes) -> None:
        published = self._unfinished.popleft()
        if published.cursor != fragment.cursor or self._log.read(published) != body:
            raise LogError(
                f"the re-encoded segment {published.segment} differs from the published one; delete the log and start again"
            )
