"""Messages between processes: a header, and the payload that it announces."""

import socket

import pytest

from upres.service.live import framing


def test_a_message_without_a_payload_is_one_packet():
    """A peer that needs only the header may close its end at once: a second packet would have no receiver."""
    own_end, peer_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own_end, peer_end:
        framing.send(own_end, {"confine": {}})
        peer_end.setblocking(False)
        assert peer_end.recv(4096)
        with pytest.raises(BlockingIOError):
            peer_end.recv(4096)
