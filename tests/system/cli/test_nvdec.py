"""`--nvdec`: tried before a run, the same result, and noted where it has no effect."""

import media
import pytest
from fake_nvdec import FakeNvdec

from upres.engine.machine import video_engines


@pytest.fixture
def clip(tmp_path):
    return media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=48x32:rate=10:duration=0.4")


@pytest.mark.parametrize("target", [["out.mp4"], [], ["out.mp4", "--dry-run"]], ids=["named", "unnamed", "dry_run"])
def test_a_run_is_refused_if_it_does_not_open(upres, clip, monkeypatch, target):
    monkeypatch.setattr(video_engines, "_nvdec_problem", lambda: "no driver")
    monkeypatch.chdir(clip.parent)
    code, _, err = upres("in.mp4", *target, "--nvdec")
    assert code and "NVDEC does not open here: no driver; without --nvdec the CPU decodes" in err
    assert [*clip.parent.iterdir()] == [clip]


def test_the_result_is_the_same(upres, clip, monkeypatch):
    fake = FakeNvdec(monkeypatch)
    monkeypatch.chdir(clip.parent)
    assert upres("in.mp4", "cpu.mp4")[0] == 0
    assert fake.frames == 0
    assert upres("in.mp4", "gpu.mp4", "--nvdec")[0] == 0
    assert fake.frames == 4
    assert upres("in.mp4", "--nvdec")[0] == 0
    assert (clip.parent / "cpu.mp4").read_bytes() == (clip.parent / "gpu.mp4").read_bytes()
    assert (clip.parent / "in_x4.mp4").read_bytes() == (clip.parent / "cpu.mp4").read_bytes()


def test_what_the_cpu_decodes_is_reported(upres, clip, monkeypatch):
    FakeNvdec(monkeypatch, supports=False)
    monkeypatch.chdir(clip.parent)
    code, _, err = upres("in.mp4", "out.mp4", "--nvdec")
    assert code == 0 and "NVDEC does not decode h264 as yuv420p here; the CPU does" in err


def test_a_still_does_not_use_it(upres, clip, monkeypatch):
    monkeypatch.setattr(video_engines, "_nvdec_problem", lambda: "no driver")
    monkeypatch.chdir(clip.parent)
    code, _, err = upres("in.mp4", "out.png", "--still", "0.1", "--nvdec")
    assert code == 0 and "does not use --nvdec" in err
