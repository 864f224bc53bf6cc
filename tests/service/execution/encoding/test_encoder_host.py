"""The worker's side of an encoder channel: valid requests, invalid ones, and the release of its session."""

import threading

import numpy as np
import pytest
from fake_nvenc import FakeNvenc
from worker_desk import until

from upres.engine.core.frame import Frame
from upres.engine.encode.encoder import SegmentEncoder
from upres.service.domain.errors import NoRoomError
from upres.service.execution.channel import Channel
from upres.service.execution.encoding import encoder_host
from upres.service.execution.encoding.encoder_host import EncoderHosts
from upres.service.execution.encoding.gpu_sessions import Sessions


@pytest.fixture
def nvenc(monkeypatch):
    return FakeNvenc(monkeypatch)


def opened(sessions):
    """Claim an encoder for pictures of 64x48; return the worker's end and the attempt's."""
    hosts = EncoderHosts(sessions)
    assert hosts.claim(1)
    hosts.set_size(64, 48)
    channel = Channel(hosts.open())
    channel.attach(channel.receive()[0]["shared"])
    return hosts, channel


def test_an_encoder_that_the_driver_holds_is_given_back_once_it_does_not(nvenc, monkeypatch):
    ends = threading.Event()

    class Holding(SegmentEncoder):
        def close(self):
            ends.wait(60)
            super().close()

    monkeypatch.setattr(encoder_host, "SegmentEncoder", Holding)
    monkeypatch.setattr(encoder_host, "END_SECONDS", 0.05)
    sessions = Sessions(2)
    hosts, channel = opened(sessions)
    channel.send({"do": "begin", "encoder": ENCODER, "shape": PICTURES})
    channel.send({"do": "encode", "key": False}, picture(0))
    channel.send({"do": "take", "last": False})
    channel.receive_data()
    hosts.close()
    assert sessions.claim(9) == 1
    ends.set()
    until(lambda: sessions.in_use == sessions.most - 1)
    channel.close()


@pytest.fixture
def one(nvenc):
    """An attempt's end of an encoder for pictures of 64x48, and the remaining sessions."""
    sessions = Sessions(2)
    hosts, channel = opened(sessions)
    yield channel, hosts, sessions
    hosts.close()
    channel.close()
    assert sessions.claim(9) == 2 and "nvenc" not in {thread.name for thread in threading.enumerate()}


COLOR = {"matrix": "bt709", "range": "tv", "primaries": "bt709", "transfer": "bt709"}
PICTURES = {"color": COLOR, "time_base": [1, 25], "rate": [25, 1], "sample_aspect": [1, 1]}
ENCODER = {"codec": "h264", "crf": 18, "preset": "fast", "segment_seconds": 2.0, "fragment": "frame", "live": True}


def picture(pts, height=48):
    return Frame(np.full((height * 3 // 2, 64), pts, np.uint8), pts, 1)


def test_a_live_source_has_one_encoder_and_gets_every_frame_at_once(one):
    channel, _, _ = one
    channel.send({"do": "begin", "encoder": ENCODER, "shape": PICTURES})
    for pts in range(7, 12):
        channel.send({"do": "encode", "key": False}, picture(pts))
        channel.send({"do": "take", "last": False})
        message, data = channel.receive_data()
        assert message["end"] == {"codec": "h264_nvenc", "pts": pts, "duration": 1, "last": False, "shot": False}
        assert data[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"codec": "av1"}, {}),
        ({"preset": "/etc/passwd"}, {}),
        ({"crf": -1}, {}),
        ({"options": [["gpu", "7"]]}, {}),
        ({"pixel_format": "yuv420p"}, {}),
        ({"height": 64}, {}),
        ({"nobody": 1}, {}),
        ({}, {"color": {**COLOR, "matrix": "x"}}),
        ({}, {"color": {}}),
        ({}, {"time_base": [1, 0]}),
        ({}, {"time_base": [-1, 25]}),
        ({}, {"rate": [1 << 40, 1]}),
        ({}, {"rate": "fast"}),
    ],
)
def test_what_is_no_encoder_is_an_error_and_the_next_one_opens(one, settings, shape):
    channel, _, _ = one
    for change, pictures in ((settings, shape), ({}, {})):
        channel.send({"do": "begin", "encoder": {**ENCODER, **change}, "shape": {**PICTURES, **pictures}})
        channel.send({"do": "encode", "key": False}, picture(0))
        channel.send({"do": "finish"})
        message, _ = channel.receive_data()
        assert ("error" in message) is (change is settings)


@pytest.mark.parametrize("message", [{"do": "anything"}, {"do": "encode"}, {}])
def test_what_is_no_question_ends_the_channel(one, message):
    channel, _, _ = one
    channel.send(message)
    with pytest.raises((EOFError, OSError)):
        channel.receive_data()


def test_a_picture_of_another_size_is_an_error(one):
    channel, _, _ = one
    channel.send({"do": "begin", "encoder": ENCODER, "shape": PICTURES})
    channel.send({"do": "encode", "key": False}, picture(0, 46))
    channel.send({"do": "finish"})
    assert "got a frame of 64x46" in channel.receive_data()[0]["text"]


def test_a_segment_that_does_not_end_is_an_error(one, monkeypatch):
    monkeypatch.setattr(encoder_host, "MAX_WAITING_BYTES", 100)
    channel, _, _ = one
    channel.send({"do": "begin", "encoder": ENCODER, "shape": PICTURES})
    for pts in range(3):
        channel.send({"do": "encode", "key": True}, picture(pts))
    channel.send({"do": "finish"})
    assert "a segment is larger than 100 bytes" in channel.receive_data()[0]["text"]


def test_an_attempt_opens_no_more_encoders_than_were_claimed_for_it(one):
    _, hosts, sessions = one
    with pytest.raises(NoRoomError, match="all encoders of the GPU are in use"):
        hosts.open()
    assert hosts.claim(5) == 1 == 2 - 1 and sessions.claim(1) == 0
