"""WHIP through an ffmpeg program that supports it, to a third-party receiver."""

import socket

import media
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from live_runs import packets, run

from upres.engine.core.errors import TargetError
from upres.engine.live import destination as live_destination
from upres.engine.live.destination import destination, destinations

pytestmark = pytest.mark.referee
PICTURE = "testsrc2=size=64x48:rate=25:duration"


@pytest.fixture
def recent_ffmpeg(tmp_path, monkeypatch):
    """Put an ffmpeg that is recent enough first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ffmpeg").symlink_to(get_ffmpeg_exe())
    monkeypatch.setenv("PATH", str(folder))
    if media.version() < (8,):
        pytest.skip("this ffmpeg has no WHIP")


def test_a_receiver_of_webrtc_gets_picture_and_sound_and_the_token(recent_ffmpeg, tmp_path):
    whip = pytest.importorskip("whip", reason="needs aiortc")
    clip = media.clip(tmp_path / "in.ts", "-g", 10, picture=f"{PICTURE}=8", sound="sine=duration=8")
    with whip.Receiver().open() as receiver:
        address = receiver.address.replace("http://", "whip+http://s%20ecret@")
        [place] = destinations([address], "clip.ts", overwrite=False)
        running, _ = run(clip, address, tmp_path / "out.mkv")
        receiver.wait(lambda: receiver.pictures and receiver.sounds)
    assert [each.error for each in running.sinks] == [None, None] and place.container == "nut"
    assert receiver.tokens == ["Bearer s ecret"]
    assert len(receiver.pictures) > 50 and len(receiver.sounds) > 50
    assert {(each.width, each.height) for each in receiver.pictures} == {(128, 96)}
    assert packets(tmp_path / "out.mkv")[0] == 200


def test_a_receiver_that_answers_and_then_sends_nothing_back_gets_all_of_it(recent_ffmpeg, tmp_path, monkeypatch):
    """The timeout applies to the answer only, not to what follows."""
    whip = pytest.importorskip("whip", reason="needs aiortc")
    monkeypatch.setattr(live_destination, "ANSWER_SECONDS", 2)
    clip = media.clip(tmp_path / "in.ts", "-g", 10, picture=f"{PICTURE}=8")
    whip.silence(monkeypatch)
    with whip.Receiver().open() as receiver:
        running, _ = run(clip, receiver.address.replace("http://", "whip+http://"))
        receiver.wait(lambda: len(receiver.pictures) > 150)
    assert running.sinks[0].error is None


def test_a_receiver_that_never_answers_is_given_up_before_the_source_ends(recent_ffmpeg, tmp_path, monkeypatch):
    if "-timeout " not in media.ffmpeg("-h", "muxer=whip").decode():
        pytest.skip("this ffmpeg has no limit on it")
    monkeypatch.setattr(live_destination, "ANSWER_SECONDS", 1)
    clip = media.clip(tmp_path / "in.ts", picture=f"{PICTURE}=8")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"whip+http://tok@127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(
            TargetError, match=r"no destination accepts the result any more .*could not send it"
        ) as raised:
            run(clip, address)
    assert "after the end" not in str(raised.value) and "tok" not in str(raised.value)


def test_who_refuses_the_offer_costs_nobody_else(recent_ffmpeg, tmp_path):
    clip = media.clip(tmp_path / "in.ts", picture=f"{PICTURE}=2")
    running, _ = run(clip, "whip+http://127.0.0.1:1/x", tmp_path / "out.mkv")
    refused, fine = (each.error for each in running.sinks)
    assert isinstance(refused, TargetError) and fine is None
    assert "check that a receiver listens there, and accepts H.264" in str(refused)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (None, "needs the ffmpeg program, version 8 or later, which is not installed"),
        (
            "#!/bin/sh\necho '  E  rtsp  RTSP output'\n",
            "needs an ffmpeg program with the muxer whip, version 8 or later",
        ),
        ("no program", "does not report its features"),
    ],
)
def test_without_a_program_that_has_it_that_is_said_before_anything_starts(tmp_path, monkeypatch, program, message):
    assert destination("WHIP+HTTPS://h/x").container == "nut"
    if program is not None:
        (tmp_path / "ffmpeg").write_text(program)
        (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=message):
        destinations(["whip+https://h/x"], "clip.mp4", overwrite=False)
