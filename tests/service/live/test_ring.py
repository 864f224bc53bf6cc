"""The ring of a live log: bounded, read at several places, and held back by at most one reader."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_pieces import TRACKS, numbers, picture, read_all, ring, sound

from upres.service.domain.errors import OffsetError
from upres.service.live.piece import Dropped, Piece
from upres.service.live.ring import Place


def test_a_reader_gets_everything_once_each_track_first():
    async def scenario():
        log = ring()
        place = Place(log)
        await log.put(picture(0))
        await log.put(sound(0))
        assert read_all(place) == [TRACKS["video"], picture(0), TRACKS["audio0"], sound(0)]
        await log.put(picture(1))
        assert read_all(place) == [picture(1)] and read_all(place) == []

    asyncio.run(scenario())


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    most_bytes=st.integers(40, 200),
    most_seconds=st.floats(0.1, 3),
    reads=st.sets(st.integers(0, 60)),
)
def test_it_stays_within_its_bounds_and_a_slow_reader_is_told_what_it_lost(sizes, most_bytes, most_seconds, reads):
    async def scenario():
        log = ring(most_bytes=most_bytes, most_seconds=most_seconds)
        place, items = Place(log), []
        for number, size in enumerate(sizes):
            await log.put(picture(number, size))
            stored = [log[at].piece for at in range(log.first, log.next)]
            assert sum(len(piece.data) for piece in stored) <= most_bytes
            assert len(stored) * 0.1 <= most_seconds + 0.11
            if number in reads:
                items += read_all(place)
        items += read_all(place)
        expected = None
        for item in items:
            if isinstance(item, Dropped):
                assert (
                    expected is not None
                    and item.fragment.independent
                    and item.frames == item.fragment.pts - expected > 0
                )
                expected = item.fragment.pts
            elif isinstance(item, Piece):
                if expected is None:
                    assert item.fragment.independent
                assert expected in (None, item.fragment.pts)
                expected = item.fragment.pts + 1

    asyncio.run(scenario())


def test_every_track_goes_on_by_itself_after_a_gap():
    async def scenario():
        log = ring(most_bytes=50)
        place = Place(log)
        for number in range(2):
            await log.put(picture(number))
            await log.put(sound(number))
        assert numbers(read_all(place)) == [0, 1]
        for number in range(2, 9):
            await log.put(picture(number))
            await log.put(sound(number))
        items = read_all(place)
        assert [
            (item.fragment.track, item.fragment.pts, item.frames) for item in items if isinstance(item, Dropped)
        ] == [
            ("audio0", 5, 15),
            ("video", 8, 6),
        ]
        assert numbers(items) == [8]

    asyncio.run(scenario())


def test_a_cursor_goes_on_where_it_was_and_one_that_is_too_old_is_told_the_oldest_there_is():
    async def scenario():
        log = ring(most_bytes=50)
        for number in range(9):
            await log.put(picture(number))
        log.check({"video": (1, 1)})
        assert numbers(read_all(Place(log, {"video": (1, 1)}))) == [6, 7, 8]
        log.check({"video": (0, 3)})
        assert numbers(read_all(Place(log, {"video": (0, 3)}))) == [4, 5, 6, 7, 8]
        with pytest.raises(OffsetError, match="too old; the oldest fragment is segment 1, fragment 0") as caught:
            log.check({"video": (0, 2)})
        assert caught.value.where == {"track": "video", "segment": "1", "fragment": "0"}
        with pytest.raises(OffsetError, match="after the log's end"):
            log.check({"video": (2, 1)})
        with pytest.raises(OffsetError, match="after the log's end"):
            log.check({"audio0": (0, 0)})

    asyncio.run(scenario())


def test_who_joins_to_watch_starts_with_the_newest_key_frame_and_its_sound():
    async def scenario():
        log = ring()
        watching = Place(log, most_late=inf)
        await log.put(sound(0))
        assert read_all(watching) == [TRACKS["audio0"], sound(0)]  # there is no video yet
        for number in range(6):
            await log.put(sound(number + 1))  # it precedes its video
            await log.put(picture(number))
        assert numbers(read_all(watching)) == [4, 5]
        assert numbers(read_all(Place(log))) == [0, 1, 2, 3, 4, 5]
        joining = [item for item in read_all(Place(log, most_late=inf)) if isinstance(item, Piece)]
        assert joining == [sound(4), sound(5), picture(4), sound(6), picture(5)]

    asyncio.run(scenario())


def test_who_watches_passes_over_what_is_late_once_there_is_a_key_frame():
    async def scenario():
        log = ring()
        slow, patient = Place(log, most_late=0.5), Place(log, most_late=inf)
        await log.put(picture(0))
        assert numbers(read_all(slow)) == numbers(read_all(patient)) == [0]
        for number in range(1, 10):
            await log.put(picture(number))
        late = read_all(slow)
        assert late[0] == Dropped(picture(8).fragment, 7) and numbers(late) == [8, 9]
        assert numbers(read_all(patient)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]

    asyncio.run(scenario())


def test_a_reader_that_is_overtaken_continues_with_the_newest_key_frame_where_late_frames_are_dropped():
    """It used to continue with the oldest piece, and so stayed as late as the ring is long, and was overtaken again and again."""

    async def scenario():
        log = ring(most_bytes=80)
        slow, complete = Place(log, to_newest=True), Place(log)
        await log.put(picture(0))
        assert numbers(read_all(slow)) == numbers(read_all(complete)) == [0]
        for number in range(1, 12):
            await log.put(picture(number))
        items = read_all(slow)
        assert items[0] == Dropped(picture(8).fragment, 7) and numbers(items) == [8, 9, 10, 11]
        assert numbers(read_all(complete)) == [4, 5, 6, 7, 8, 9, 10, 11]

    asyncio.run(scenario())


def test_the_holder_is_waited_for_and_only_the_holder():
    async def scenario():
        log = ring(most_bytes=30, holds=True)
        other, holder = Place(log), log.holder
        for number in range(3):
            await log.put(picture(number))
        waiting = asyncio.create_task(log.put(picture(3)))
        assert numbers(read_all(other)) == [0, 1, 2]
        await asyncio.sleep(0)
        assert not waiting.done() and log.blocked_since is not None
        assert [holder.next(), holder.next()] == [TRACKS["video"], picture(0)]
        await waiting
        assert log.blocked_since is None and numbers(read_all(holder)) == [1, 2, 3]
        for number in range(4, 7):
            await log.put(picture(number))
        waiting = asyncio.create_task(log.put(picture(7)))
        await asyncio.sleep(0)
        log.release()
        await waiting
        assert log.first == 5

    asyncio.run(scenario())


def test_an_end_wakes_whoever_waits():
    async def scenario():
        log = ring(most_bytes=10, holds=True)
        await log.put(picture(0))
        waiting = asyncio.create_task(log.put(picture(1)))
        changed = log.changed
        await asyncio.sleep(0)
        log.end()
        await waiting
        assert changed.is_set() and log.ended and log.next == 1

    asyncio.run(scenario())
