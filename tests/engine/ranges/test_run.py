"""One job on several devices yields the same log as on one, byte for byte, for any source and after any failure."""

from fractions import Fraction

import media
import pytest
from companions import Waiting, companion
from fake import Nearest, job
from split import QUICK, processed, ranges

from upres.engine.api import upscale
from upres.engine.core.errors import SettingsError
from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader
from upres.engine.segments.folder import FolderLog

PICTURE = "testsrc2=size=64x48:rate=10:duration=4"
WIDE = "mandelbrot=size=480x64:rate=10:end_scale=0.1:end_pts=40,trim=duration=4"
SHOTS = "color=navy:size=64x48:rate=10:duration=1.2[a];color=white:size=64x48:rate=10:duration=2.8[b];[a][b]concat"
UNEVEN = ("-vf", "settb=1/1000,setpts='100*N+30*mod(N,3)'", "-fps_mode", "passthrough", "-enc_time_base", "1:1000")
GOPS = ("-c:v", "libx264", "-g", "8", "-bf", "3", "-x264-params")
SOURCES = {
    "closed.mp4": (PICTURE, *GOPS, "scenecut=0"),
    "open.mkv": (PICTURE, *GOPS, "scenecut=0:open-gop=1"),
    "open.ts": (PICTURE, *GOPS, "scenecut=0:open-gop=1"),
    "uneven.mkv": (PICTURE, *UNEVEN, *GOPS, "scenecut=0"),
    "shots.mp4": (SHOTS, *GOPS, "scenecut=0"),
    "refresh.mp4": (WIDE, "-c:v", "libx264", "-g", "20", "-x264-params", "intra-refresh=1:scenecut=0:bframes=0"),
    "raw.h264": (PICTURE, *GOPS, "scenecut=0"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # slow, and unnecessary without power failures


@pytest.fixture(scope="module")
def source(clips):
    def path_of(name):
        path = clips / f"ranges-{name}"
        if not path.exists():
            picture, *args = SOURCES[name]
            sound = None if path.suffix == ".h264" else "sine=duration=4"
            media.clip(path, *args, picture=picture, sound=sound)
        return path

    return path_of


@pytest.mark.parametrize(
    ("name", "devices", "settings"),
    [
        ("closed.mp4", 2, {}),
        ("open.mkv", 4, {}),
        ("open.ts", 3, {}),
        ("refresh.mp4", 2, {}),
        ("uneven.mkv", 2, {"cut": Cut(Fraction(7, 10), Fraction(5, 2))}),
        ("open.mkv", 2, {"prefilters": ("deinterlace-fields", "denoise")}),
        ("shots.mp4", 2, {"split": True, "encoders": 4}),
    ],
)
def test_several_devices_make_the_same_log(source, tmp_path, name, devices, settings):
    alone, was = processed(source(name), tmp_path / "1", **settings)
    together, progress = processed(source(name), tmp_path / "2", *[(Nearest(),)] * (devices - 1), **settings)
    assert together == alone
    assert ranges(tmp_path / "2") >= 4
    assert (progress.frames_out, progress.warnings) == (was.frames_out, was.warnings)
    assert not progress.repairs


@pytest.mark.parametrize(
    ("name", "model", "settings", "why"),
    [
        ("closed.mp4", Nearest(warmup=None), {}, "nearest remembers earlier frames"),
        ("closed.mp4", Nearest(), {"prefilters": ("stabilise",)}, "the pre-filter stabilise remembers earlier frames"),
        ("raw.h264", Nearest(), {}, "the source's packets cannot be relied on"),
    ],
)
def test_what_cannot_be_split_is_made_by_one_device_which_says_why(source, tmp_path, name, model, settings, why):
    alone, _ = processed(source(name), tmp_path / "1", model=model, **settings)
    together, progress = processed(source(name), tmp_path / "2", (model,), model=model, **settings)
    assert together == alone
    assert (
        len([line for line in progress.warnings if line.startswith("one device works on it, not 2") and why in line])
        == 1
    )
    assert ranges(tmp_path / "2") == 1


def test_a_range_that_does_not_continue_the_one_before_is_not_used(source, tmp_path, monkeypatch):
    alone, _ = processed(source("closed.mp4"), tmp_path / "1")
    start_at = Reader.start_at
    monkeypatch.setattr(Reader, "start_at", lambda self, second: start_at(self, second + (second > 2)))
    together, progress = processed(source("closed.mp4"), tmp_path / "2", (Nearest(),))
    assert together == alone
    why = "range 5: it does not begin with the frame that ends the range before it"
    assert progress.warnings == [f"one device works on it, not 2: {why}"]
    again, _ = processed(source("closed.mp4"), tmp_path / "2", (Nearest(),))
    assert again == alone and ranges(tmp_path / "2") == 1


def test_other_models_are_refused(source, tmp_path):
    with pytest.raises(SettingsError, match="made by the same models, not by other on numpy and nearest on numpy"):
        processed(source("closed.mp4"), tmp_path / "2", (Nearest(name="other"),))


class Fails(Nearest):
    """A model that fails once, at the 7th frame of its 2nd session."""

    def open(self, width, height):
        session = super().open(width, height)
        if len(self.opened) == 2:
            push = session.push
            session.push = lambda frame: push(frame) if session.count < 6 else self.fail()
        return session

    def fail(self):
        raise RuntimeError("the device is gone")


def test_a_range_that_fails_is_made_again_from_where_its_log_ends(source, tmp_path):
    alone, _ = processed(source("open.mkv"), tmp_path / "1")
    together, progress = processed(source("open.mkv"), tmp_path / "2", (Fails(),), model=Fails())
    assert together == alone
    assert not progress.warnings


def test_what_always_fails_is_raised_as_itself(source, tmp_path):
    class Broken(Nearest):
        def open(self, width, height):
            raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        processed(source("closed.mp4"), tmp_path / "2", (Broken(),), model=Broken())


class Stopped(BaseException):
    """Exit the process abruptly, as a signal would."""


@pytest.mark.parametrize("others", [0, 1, 3])
def test_what_was_stopped_is_resumed_by_any_number_of_devices(source, tmp_path, others):
    alone, _ = processed(source("open.mkv"), tmp_path / "1")
    folder = tmp_path / "2"

    def stop():
        if FolderLog.segments(folder) >= 2:
            raise Stopped

    with pytest.raises(Stopped):
        processed(source("open.mkv"), folder, (Nearest(),), tick=stop)
    together, progress = processed(source("open.mkv"), folder, *[(Nearest(),)] * others)
    assert together == alone
    assert 0 < progress.frames_resumed < progress.frames_out


def test_a_process_that_dies_costs_what_it_was_making(source, tmp_path):
    alone, target, marker = tmp_path / "alone.mp4", tmp_path / "out.mp4", tmp_path / "dies"
    upscale(source("closed.mp4"), alone, job(alone, encoder=QUICK))
    marker.touch()
    waiting_job = job(target, Waiting(marker=marker), encoder=QUICK)
    progress = upscale(source("closed.mp4"), target, waiting_job, companions=[companion(marker)])
    assert target.read_bytes() == alone.read_bytes()
    assert progress.warnings == ["the process of a device has ended (-9)"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.mp4", "out.mp4"]
