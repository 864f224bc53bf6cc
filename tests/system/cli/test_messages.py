"""Notes, help, and the commands that only print."""

import json
import re

import media
import pytest
from paths import SAMPLE

from upres.engine.decode.filters import PREFILTERS


def test_an_interlaced_source_is_told_once_unless_something_is_done_about_it(upres, tmp_path):
    old = media.clip(
        tmp_path / "old.mpg",
        "-r",
        25,
        "-c:v",
        "mpeg2video",
        "-flags",
        "+ildct+ilme",
        "-vf",
        "tinterlace=4,setfield=tff",
    )
    few = ["--model", "RealESRGAN_Vid_x2", "--duration", "0.3"]
    assert upres(old, tmp_path / "a.mp4", *few)[2].count("the source is interlaced") == 1
    err = upres(old, tmp_path / "b.mp4", *few, "--prefilter", "deinterlace-fields")[2]
    assert "is interlaced" not in err
    assert "128x96, 16 frames, about" in err  # each of the 8 is two


@pytest.mark.parametrize(("runtime", "name"), [("onnxruntime", "ONNX Runtime"), ("ncnn", "ncnn")])
def test_why_high_is_exact(upres, tiny, tmp_path, runtime, name):
    _, _, err = upres(tiny, tmp_path / "out.mp4", "--runtime", runtime)
    assert f"note: this runtime computes in float32 only, so high is exact ({name} " in err
    assert (
        "so high is exact"
        not in upres(tiny, tmp_path / "exact.mp4", "--runtime", "onnxruntime", "--quality", "exact")[2]
    )


def test_probe_says_that_a_source_is_hdr_and_what_is_unknown(upres, tmp_path):
    hdr = media.clip(
        tmp_path / "hdr.mkv", "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le",
        *media.tagged("bt2020nc", "bt2020", "smpte2084"),
    )  # fmt: skip
    code, out, _ = upres("probe", hdr)
    assert code == 0
    assert re.search(r"hdr +yes; it is kept, or converted to SDR with --tonemap", out)
    assert re.search(r"frames +unknown", out)
    assert re.search(r"noise +[\d.]+ \((none|little|much)\)", out)
    assert "high dynamic range: " in out.partition("- ")[2]
    assert "None" not in out


def test_help_begins_with_what_upres_is_for(upres, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = upres("--help")[1]
    assert text.split()[:7] == ["Usage:", "upres", "IN", "[OUT]", "[OPTIONS]", "|", "COMMAND"]
    shown = text.partition("Options")[0]
    assert all(option in shown for option in ("--model", "--duration", "--resume", "upres run --help"))
    options = re.sub(r"[│\s]+", " ", upres("run", "--help")[1])
    assert ", ".join(PREFILTERS) in options


def test_probe_models_doctor_and_licenses(upres):
    code, out, _ = upres("probe", SAMPLE, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["audio"] == "aac"
    assert facts["video"] == {"codec": "h264", "width": 320, "height": 180, "pixel_format": "yuv420p", "fps": 25.0}
    assert facts["hdr"] is False
    assert [rule["rule"] for rule in facts["advice"]] == ["small", "grade"]
    assert "RealESRGAN_Vid_x4" in upres("models")[1]
    assert "all requirements of upres are met" in upres("doctor")[1]
    assert "BSD 3-Clause" in upres("licenses")[1]
