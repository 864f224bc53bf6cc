"""Real fragments of a real run, packaged from a ring for HLS players."""

import asyncio
import io
from dataclasses import replace

import av
import hls
import pytest
from fake import Nearest

from upres.engine.decode.reader import Reader
from upres.engine.encode.fragment import delayed
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog
from upres.engine.segments.model import Track
from upres.service.api.http.hls import playlist
from upres.service.api.http.hls.packager import LEAD_SECONDS, Packager
from upres.service.live.piece import Piece
from upres.service.live.ring import Ring

SEGMENT = 0.5
HOLE = 5  # seconds


@pytest.fixture
def live(clip):
    """Tracks and pieces of four seconds with audio, in the order in which they are produced."""
    encoder = Encoder(fragment="frame", live=True, segment_seconds=SEGMENT, preset="ultrafast")
    log = MemoryLog({})
    with Reader(io.BytesIO(clip("a.ts", 4, "-c:a", "aac").read_bytes()), live=True) as reader:
        pieces = [Piece(each, log.read(each)) for each in run(reader, Job((Nearest(),), encoder), log, Progress())]
    return log.tracks, pieces


def packaged(tracks, pieces, most_bytes=1 << 26):
    """A packager's output once the log has ended."""

    async def scenario():
        ring = Ring(most_bytes=most_bytes, most_seconds=1000, holds=False)
        packager = Packager(ring, SEGMENT)
        done = asyncio.Event()
        packager.start(done.set)
        for piece in pieces:
            if piece.fragment.track not in ring.tracks:
                ring.add_track(tracks[piece.fragment.track])
            await ring.put(piece)
            await asyncio.sleep(0)  # the packager reads while the log grows
        ring.end()
        async with asyncio.timeout(200):
            await done.wait()
        assert packager.ended
        return packager

    return asyncio.run(scenario())


def chunks(segment):
    return b"".join(chunk.data for part in segment.parts for chunk in part.chunks)


def shown(rendition, segments):
    """Start and end in seconds of each packet of some segments, as a player reads them."""
    data = rendition.track.init + b"".join(map(chunks, segments))
    with av.open(io.BytesIO(data)) as file:
        times = [(packet.pts, packet.duration, packet.time_base) for packet in file.demux() if packet.size]
    return [(float(pts * base), float((pts + length) * base)) for pts, length, base in times]


def test_every_track_is_cut_where_the_picture_is_and_nothing_is_lost(live):
    renditions = packaged(*live).renditions
    assert list(renditions) == ["video", "audio0"] and renditions["video"].target == renditions["audio0"].target == 1
    video, sound = renditions["video"], renditions["audio0"]
    assert [segment.number for segment in video.segments] == [segment.number for segment in sound.segments]
    for segment, beside in zip(video.segments, sound.segments, strict=True):
        assert segment.whole and beside.whole and [part.independent for part in beside.parts]
        assert [part.independent for part in segment.parts] == [True] + [False] * (len(segment.parts) - 1)
        times = shown(video, [segment])
        assert times[0][0] == pytest.approx(segment.start + LEAD_SECONDS, abs=1e-3)
        assert times[-1][1] == pytest.approx(segment.start + segment.duration + LEAD_SECONDS, abs=1e-3)
        sounding = shown(sound, [beside])
        assert sounding[0][0] == pytest.approx(beside.start + LEAD_SECONDS, abs=1e-3)
        assert beside is sound.segments[0] or 0 <= beside.start - segment.start < 0.12
    assert len(shown(video, video.segments)) == 40
    frames = sum(piece.fragment.frames for piece in live[1] if piece.fragment.track == "audio0")
    assert len(shown(sound, sound.segments)) == frames


def test_behind_a_hole_every_track_has_a_discontinuity(live):
    tracks, pieces = live
    moved, breaks = [], {}
    for piece in pieces:
        track = tracks[piece.fragment.track]
        start = (piece.fragment.pts + track.start) * track.time_base
        if start >= 2:
            ticks = round(HOLE / track.time_base)
            media_ticks = HOLE * (90000 if track.name == "video" else 44100)
            fragment = replace(piece.fragment, pts=piece.fragment.pts + ticks)
            piece = Piece(fragment, delayed(piece.data, media_ticks))
        moved.append(piece)
    renditions = packaged(tracks, moved).renditions
    for name, rendition in renditions.items():
        breaks[name] = [(segment.number, segment.breaks) for segment in rendition.segments if segment.breaks]
        behind = next(segment for segment in rendition.segments if segment.breaks)
        assert 2 + HOLE <= behind.start < 2.2 + HOLE
    assert breaks["video"] == breaks["audio0"] == [(4, 1)]


def test_nothing_is_kept_for_nobody_and_who_comes_back_finds_the_numbers_continued(live, monkeypatch):
    tracks, pieces = live
    starts = [
        (piece.fragment.pts + tracks[piece.fragment.track].start) * tracks[piece.fragment.track].time_base
        for piece in pieces
    ]

    async def scenario():
        ring = Ring(most_bytes=1 << 26, most_seconds=0.6, holds=False)
        packager, done = Packager(ring, SEGMENT), asyncio.Event()
        packager.start(done.set)

        async def put(begin, end):
            for piece, start in zip(pieces, starts, strict=True):
                if begin <= start < end:
                    if piece.fragment.track not in ring.tracks:
                        ring.add_track(tracks[piece.fragment.track])
                    await ring.put(piece)
                    await asyncio.sleep(0)

        await put(-1, 1.5)
        before = {name: rendition.whole for name, rendition in packager.renditions.items()}
        assert packager.plays
        monkeypatch.setattr("upres.service.api.http.hls.packager.IDLE_SECONDS", -1)
        await put(1.5, 3.5)
        assert not packager.plays and not any(each.segments for each in packager.renditions.values())
        monkeypatch.setattr("upres.service.api.http.hls.packager.IDLE_SECONDS", 60)
        packager.ask()
        await put(3.5, 5)
        assert packager.plays
        ring.end()
        async with asyncio.timeout(200):
            await done.wait()
        return before, packager

    before, packager = asyncio.run(scenario())
    video, sound = packager.renditions["video"], packager.renditions["audio0"]
    assert [(segment.number, segment.breaks) for segment in video.segments] == [
        (segment.number, segment.breaks) for segment in sound.segments
    ]
    first = video.segments[0]
    assert first.number >= before["video"] and first.breaks == 1 and first.start >= 2.4 and first.parts[0].independent
    assert 0 <= first.start - sound.segments[0].start < 0.12
    text = playlist.media("video", packager.renditions, started_at=0.0, ended=True)
    assert hls.media(text).segments[0].number == first.number


def test_one_that_failed_stays_so_while_its_job_runs(live):
    tracks, pieces = live

    async def scenario():
        ring = Ring(most_bytes=1 << 26, most_seconds=1000, holds=False)
        packager, done = Packager(ring, SEGMENT), asyncio.Event()
        packager.start(done.set)
        for track in tracks.values():
            ring.add_track(replace(track, init=b"nothing"))
        for piece in pieces:
            await ring.put(piece)
        async with asyncio.timeout(200):
            await packager.until(lambda: False, 60)
            assert packager.ended and not done.is_set()
            ring.end()
            await done.wait()

    asyncio.run(scenario())


def test_a_log_that_is_none_ends_with_a_word_in_the_servers_log(live, caplog):
    tracks, pieces = live
    broken = {name: Track(track.name, track.codec, track.time_base, 0, b"nothing") for name, track in tracks.items()}
    assert not packaged(broken, pieces).plays
    assert "cannot be packaged as HLS" in caplog.text


def test_sound_without_a_picture_is_not_kept_without_end(live):
    tracks, pieces = live
    sound = [piece for piece in pieces if piece.fragment.track != "video"]
    picture = [piece for piece in pieces if piece.fragment.track == "video"]
    most = sum(len(piece.data) for piece in sound) // 2
    renditions = packaged(tracks, [*sound, *picture], most).renditions
    [audio] = (each for name, each in renditions.items() if name != "video")
    kept = [chunk for segment in audio.segments for part in segment.parts for chunk in part.chunks]
    assert 0 < sum(len(chunk.data) for chunk in kept) <= most
    assert kept[0].start > 1 and len(kept) < len(sound)


def test_sound_that_begins_behind_a_hole_counts_it(live):
    tracks, pieces = live
    moved = []
    for piece in pieces:
        track = tracks[piece.fragment.track]
        late = (piece.fragment.pts + track.start) * track.time_base >= 2
        if late or track.name == "video":
            pts = piece.fragment.pts + int(late * HOLE / track.time_base)
            moved.append(Piece(replace(piece.fragment, pts=pts), piece.data))
    renditions = packaged(tracks, moved).renditions
    video, sound = renditions["video"], next(each for name, each in renditions.items() if name != "video")
    numbers = [each.removed_breaks + sum(segment.breaks for segment in each.segments) for each in (video, sound)]
    assert numbers == [1, 1]
