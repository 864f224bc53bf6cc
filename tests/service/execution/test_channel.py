"""Messages and frames that a compromised attempt may send through a channel."""

import socket
from contextlib import closing

import numpy as np
import pytest

from upres.engine.core.frame import Frame
from upres.service.execution.channel import Channel
from upres.service.live import framing
from upres.service.live.framing import FramingError


def pair():
    return tuple(Channel(end) for end in socket.socketpair())


def frame(pts=0):
    return Frame(np.random.default_rng(pts).integers(0, 255, (5, 7, 3), np.uint8), pts, 1, shot=pts == 0)


def described(width, height, **place):
    return {"frame": {"width": width, "height": height, "pts": 0, "duration": 1, "shot": False, **place}}


@pytest.mark.parametrize(
    "sent",
    [
        framing.encoded(described(1_000_000, 1_000_000), 3_000_000_000_000),
        framing.encoded(described(5, 7), 5 * 7 * 3 - 1) + bytes(5 * 7 * 3),
        framing.encoded(described(5, 7), 5 * 7 * 3 + 1) + bytes(5 * 7 * 3 + 1),
        framing.encoded(described(-5, -7), 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded(described(0, 7)),
        framing.encoded(described("x", 7)),
        framing.encoded({"frame": {"width": 5, "height": 7}}, 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded({"report": "waiting"}, 10) + bytes(10),
        framing.encoded(described(5, 7, bits=16), 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded(described(5, 7, bits=32), 5 * 7 * 3 * 4) + bytes(5 * 7 * 3 * 4),
        framing.encoded(described(5, 7, bits=[8]), 5 * 7 * 3) + bytes(5 * 7 * 3),
        framing.encoded(described(5, 8, planar=True), 60) + bytes(60),
        framing.encoded(described(6, 8, planar=True), 6 * 8 * 3) + bytes(6 * 8 * 3),
        framing.encoded(described(6, 8, planar=True, bits=16), 6 * 8 * 3) + bytes(6 * 8 * 3),
        (1 << 31).to_bytes(4, "big"),
        (2).to_bytes(4, "big") + b"[]",
        (5).to_bytes(4, "big") + b"no js",
        (11).to_bytes(4, "big") + b'{"size":-1}',
        (200_000).to_bytes(4, "big") + b"[" * 200_000,
    ],
)
def test_a_message_of_another_length_than_it_says_is_refused(sent):
    own_end, peer_end = socket.socketpair()
    with own_end, peer_end:
        own_end.setblocking(False)
        own_end.send(sent)
        with pytest.raises(FramingError):
            Channel(peer_end).receive()


def test_a_frame_that_breaks_off_is_never_taken_for_a_whole_one():
    """Otherwise memory that was never written, perhaps of another tenant, would be disclosed."""
    own_end, peer_end = socket.socketpair()
    with peer_end:
        with own_end:
            own_end.sendall(framing.encoded(described(5, 7), 5 * 7 * 3) + bytes(10))
        with pytest.raises(EOFError, match="10 of 105"):
            Channel(peer_end).receive()


def test_a_frame_that_no_session_takes_is_not_received():
    attempt_end, host_end = pair()
    with closing(attempt_end), closing(host_end):
        attempt_end.send({"do": "push", "session": 1}, frame())
        with pytest.raises(FramingError, match="the maximum is 0"):
            host_end.receive(0)
