"""The pace of what is read as a live source, before, in and after a stall."""

import pytest

from upres.engine.decode.live.paced import Pace

RATE, STALL = 25, 8.0


def delays(arrivals):
    """How late each frame is given, where frame k of 25 a second arrives at a time and the one before was taken at once."""
    pace, now, late = Pace(0.0), 0.0, []
    for number, arrival in enumerate(arrivals):
        now = max(now, arrival)
        now += pace.early(number / RATE, now)
        late.append(now - number / RATE)
    return late


def pieces(seconds, stall_at, stall, *, piece=2.0, kept):
    """When frames arrive that are published a piece at once, and not for a while. kept: whether they were made meanwhile."""
    for number in range(int(seconds * RATE)):
        at = number / RATE // piece * piece
        yield at if at < stall_at else max(at, stall_at + stall) if kept else at + stall


def test_a_file_is_given_at_its_own_pace():
    assert delays([0.0] * 250) == pytest.approx([0.0] * 250)


@pytest.mark.parametrize("stall", [0.5, 1.5, STALL, 60.0])
def test_after_a_stall_the_delay_is_what_it_was(stall):
    """It was added for good."""
    late = delays(pieces(100, 20, stall, kept=True))
    assert max(late) == pytest.approx(stall)
    assert late[-250:] == pytest.approx([0.0] * 250)


def test_what_a_slow_connection_sends_after_a_stall_is_caught_up_with():
    """At three times the pace, with a pause for each piece."""
    at_pace = [number / RATE for number in range(250)]
    after = [10 + STALL + piece * 2 / 3 for piece in range(30) for _ in range(2 * RATE)]
    late = [max(at, 10 + piece * 2) for at, piece in zip(after, (k // 50 for k in range(1500)), strict=True)]
    assert delays([*at_pace, *late])[-250:] == pytest.approx([0.0] * 250)


def test_a_publisher_that_stood_still_is_shown_at_its_pace_again():
    late = delays(pieces(100, 20, STALL, kept=False))
    assert late[-1] == pytest.approx(STALL)
    steady = late[-75 * RATE :]
    assert max(steady) - min(steady) < 1e-6
