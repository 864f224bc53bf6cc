"""`upres live` through the command line: a small clip at its own rate, with the included network."""

import inspect
import os
import shutil
import signal
import socket
from contextlib import contextmanager

import av
import media
import prepared
import pytest
from paths import SAMPLE
from watching import times, watch

from upres.engine.core.errors import TargetError
from upres.engine.encode.options import LIVE_PRESET
from upres.service.cli.live import PAGE_MINUTES, _wait_for_viewer
from upres.service.cli.live import live as live_command


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "in.mp4"
    media.ffmpeg("-i", SAMPLE, "-t", "1", "-vf", "scale=32:24", "-c:v", "libx264", "-c:a", "aac", path)
    return path


def live(*words, **options):
    return prepared.upres("live", *words, **options)


def test_a_clip_goes_to_two_places_and_one_that_fails_is_named(clip, tmp_path):
    done = live(clip, "--scale", "2", "--every-frame", "--to", tmp_path / "out.mkv", "--to", "tcp://127.0.0.1:1")
    output = done.stderr.decode()
    assert done.returncode == 5, output
    assert "25 frames\n" in output and f"{tmp_path / 'out.mkv'}: complete\n" in output
    assert "tcp://127.0.0.1:1: cannot be written (Connection refused)" in output
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert len(list(file.decode(video=0))) == 25 and file.streams.video[0].width == 64


def test_secrets_in_addresses_are_seen_nowhere(clip, tmp_path):
    """Two destinations whose names are equal without their secrets are still separate."""
    places = (
        "rtmp://user:SECRET@127.0.0.1:1/live?key=SECRET",
        "srt://127.0.0.1:1?passphrase=SECRET SECRET&connect_timeout=500",
        "srt://127.0.0.1:1?passphrase=SECRETSECRET2&connect_timeout=500",
    )
    done = live(clip, *(word for place in places for word in ("--to", place)), "--to", tmp_path / "out.mkv")
    output = done.stderr.decode()
    assert done.returncode == 5 and "SECRET" not in output, output
    assert "rtmp://127.0.0.1:1/live: cannot be written" in output and output.count("srt://127.0.0.1:1: ") >= 2
    done = live("rtsp://user:SECRET@127.0.0.1:1/x?key=SECRET", "--to", tmp_path / "no.mkv")
    assert done.returncode == 3 and b"SECRET" not in done.stderr and b"rtsp://127.0.0.1:1/x" in done.stderr
    done = live("srt://127.0.0.1:1?passphrase=SECRET SECRET&connect_timeout=500", "--to", tmp_path / "no.mkv")
    output = done.stderr.decode()
    why = ": cannot be opened (" if shutil.which("ffmpeg") else " needs the ffmpeg program"
    assert done.returncode == 3 and output.startswith(f"upres: srt://127.0.0.1:1{why}") and "SECRET" not in output, (
        output
    )
    done = live(clip, "--to", "nothing://SECRET@h/x", "--to", "whip+https://SECRET@h/x", environment={"PATH": ""})
    output = done.stderr.decode()
    assert done.returncode == 5 and "SECRET" not in output and output.count("whip+https://h/x") == 1, output


def test_the_result_goes_to_stdout_unless_it_is_said_otherwise(clip, tmp_path):
    with clip.open("rb") as source:
        done = live("-", "--scale", "2", stdin=source)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].width == 64 and next(file.decode(video=0))


def test_with_step_down_it_begins_with_the_models_own_network(clip, tmp_path):
    done = live(clip, "--scale", "4", "--step-down", "--to", tmp_path / "out.mkv")
    output = done.stderr.decode()
    assert done.returncode == 0 and "network: realesr-animevideov3-x4\n" in output, output
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert {frame.width for frame in file.decode(video=0)} == {128}
    alone = live(clip, "--model", "realesr-live-x2", "--step-down", "--to", tmp_path / "alone.mkv").stderr.decode()
    assert "no lighter network can replace this one" in alone


def test_a_source_is_opened_once_its_frames_can_be_upscaled(tmp_path):
    """Frames that arrive while a model is being loaded would be late from the start."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        nothing = {"UPRES_CACHE": str(tmp_path / "none")}
        done = live(address, "--model", "flashvsr", "--to", "out.ts", folder=tmp_path, environment=nothing)
        assert done.returncode == 4, done.stderr
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", ["clip.mp4", "./clip.mp4", "hard.mp4", "soft.mp4"])
@pytest.mark.parametrize("source", ["clip.mp4", "-"])
def test_the_source_is_never_written_over(clip, tmp_path, source, name):
    own = tmp_path / "clip.mp4"
    shutil.copy(clip, own)
    (tmp_path / "hard.mp4").hardlink_to(own)
    (tmp_path / "soft.mp4").symlink_to(own)
    with own.open("rb") as file:
        done = live(source, "--to", name, "--overwrite", folder=tmp_path, stdin=file)
    assert done.returncode == 5 and f"{name}: is the input itself" in done.stderr.decode()
    assert own.read_bytes() == clip.read_bytes()


def test_a_playlist_is_never_written_over_its_own_segments(clip, tmp_path):
    folder = tmp_path / "stream"
    folder.mkdir()
    media.ffmpeg("-i", clip, "-c", "copy", "-f", "hls", folder / "index.m3u8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for source in before:
        done = live(folder / source, "--to", "stream/", "--overwrite", folder=tmp_path)
        assert done.returncode == 5 and f"stream/: {source} is the input itself" in done.stderr.decode()
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_everything_that_is_wrong_with_the_places_is_said_before_one_is_opened(clip, tmp_path):
    for name in ("there.mkv", "list/index.m3u8"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"kept")
    (tmp_path / "link.mkv").symlink_to("new.mkv")
    places = ("new.mkv", "there.mkv", "list/", "out.avi", "no/out.ts", "link.mkv", "udp://h:1", "udp://h:1")
    done = live(clip, *(word for place in places for word in ("--to", place)), folder=tmp_path)
    output = done.stderr.decode()
    assert done.returncode == 5
    for problem in (
        "there.mkv: exists already; --overwrite replaces it",
        "list/: index.m3u8 exists already; --overwrite replaces it",
        "out.avi: the name must end in",
        "no/out.ts: there is no folder no",
        "link.mkv: is named twice",
        "udp://h:1: is named twice",
    ):
        assert problem in output
    assert not (tmp_path / "new.mkv").exists()
    assert (tmp_path / "there.mkv").read_bytes() == (tmp_path / "list" / "index.m3u8").read_bytes() == b"kept"


def test_a_file_and_a_playlist_are_replaced_where_that_is_asked_for(clip, tmp_path):
    (tmp_path / "out.mkv").write_bytes(b"old")
    (tmp_path / "index.m3u8").write_bytes(b"old")
    done = live(clip, "--scale", "2", "--to", "out.mkv", "--to", "./", "--overwrite", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert next(file.decode(video=0)).width == 64
    assert "#EXT-X-ENDLIST" in (tmp_path / "index.m3u8").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("missing.mp4",), 3, "missing.mp4: no such file"),
        (("a.mp4", "--to", "out.avi"), 5, "out.avi: the name must end in"),
        (("a.mp4", "--to", ""), 2, "a name is empty; an unset shell variable may be the cause"),
        (("", "--to", "out.mkv"), 2, "a name is empty; an unset shell variable may be the cause"),
        (("a.mp4", "--every-frame", "--step-down"), 2, "--step-down has no effect"),
        (("a.mp4", "--chain", "x2,x2", "--step-down", "--to", "out.mkv"), 2, "--step-down is for one model"),
        (("ftp://h/x", "--to", "out.mkv"), 3, "cannot read from ftp addresses"),
        (("rtsp://[x", "--to", "out.mkv"), 3, "rtsp://[x: is not a valid URL"),
        (("rtsp://127.0.0.1:1/x", "--to", "out.mkv"), 3, "Connection refused"),
        (
            ("http://127.0.0.1:1/x.m3u8?key=SECRET", "--to", "out.mkv"),
            3,
            "hls+http://127.0.0.1:1/x.m3u8: cannot be opened",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, words, code, message):
    done = live(*words, folder=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.decode() and b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def previewing(clip, *words):
    """Run `upres live --preview`; yields the process, its output, and the address of the page once that is reported."""
    reading, writing = os.pipe()
    with open(os.devnull, "r+b") as nothing, os.fdopen(reading) as output, os.fdopen(writing, "wb") as stderr:  # noqa: PTH123
        words = ("upres", "live", clip, "--scale", "2", "--preview", *words)
        files = {"stdin": nothing, "stdout": nothing, "stderr": stderr}
        process = prepared.Prepared("upres.service.cli.main:main", words, **files)
        stderr.close()
        try:
            line = next(line for line in output if line.startswith("preview: "))
            yield process, output, line.removeprefix("preview: ").strip()
        finally:
            process.kill()


def test_a_file_is_played_once_its_page_is_open(clip):
    with previewing(clip, "--every-frame") as (process, output, url):
        assert "the file is played as soon as this page is open" in next(line for line in output if "file" in line)
        data, progress = watch(url)
        assert process.wait(120) == 0
    assert progress["status"] == "done" and progress["frames_out"] == 25
    assert times(data)[-1] == 24 / 25


def test_ctrl_c_ends_the_wait_for_the_page(clip):
    with previewing(clip) as (process, output, _):
        assert next(line for line in output if "as soon as" in line)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "upres: interrupted" in output.read()


def test_a_result_that_is_also_written_does_not_wait_for_the_page(clip, tmp_path):
    done = live(clip, "--scale", "2", "--every-frame", "--preview", "--to", tmp_path / "out.mkv")
    assert done.returncode == 0 and b"as soon as" not in done.stderr
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert len(list(file.decode(video=0))) == 25


def test_a_page_that_is_never_opened_ends_the_run_with_the_reason():
    class Page:
        def wait_for_viewer(self, seconds):
            assert seconds == 60 * PAGE_MINUTES
            return False

    class Bar:
        def info(self, text): ...

    with pytest.raises(TargetError, match="the preview page was not opened within 10 minutes; start the run again"):
        _wait_for_viewer(Page(), Bar())


def test_live_results_are_encoded_fast_by_default():
    assert inspect.signature(live_command).parameters["preset"].default == LIVE_PRESET
