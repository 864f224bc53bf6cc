"""The command line upscales one input: its result, and what is reported about it."""

import io
import json
import subprocess
import sys

import av
import media
import numpy as np
import pytest
from paths import SAMPLE
from PIL import Image
from web_files import WebFiles
from written import names, size_and_frames

from upres.engine.pipeline.target import log_folder

SHORT = ["--duration", "0.2"]


def test_one_clip_with_sound(upres, tmp_path):
    out = tmp_path / "out.mp4"
    code, _, err = upres(SAMPLE, out, *SHORT)
    assert code == 0
    assert size_and_frames(out) == (1280, 720, 5)
    assert "1280x720, 5 frames, about" in err
    assert "5 frames in, 5 out" in err
    assert names(tmp_path) == {"out.mp4"}


def test_a_file_on_the_web_is_upscaled_as_one_on_the_disk(upres, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with WebFiles({"some clip.mp4": tiny.read_bytes()}) as server:
        address = server.url("some%20clip.mp4?key=1")
        assert "48x32" in upres("probe", address)[1]
        code, _, err = upres(address, "--duration", "0.1", "--model", "x2")
    assert code == 0 and "some clip_x2.mp4" in err, err
    assert (tmp_path / "some clip_x2.mp4").stat().st_size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--model", "RealESRGAN_Vid_x2"], (96, 64)),
        (["--model", "realesr-animevideov3-x4", "--quality", "exact", "--runtime", "onnxruntime"], (192, 128)),
        (["--chain", "RealESRGAN_Vid_x2,RealESRGAN_Vid_x2"], (192, 128)),
        (["--height", "100"], (150, 100)),
        (["--prefilter", "denoise", "--prefilter", "deblock", "--split"], (192, 128)),
        (["--codec", "hevc", "--preset", "ultrafast"], (192, 128)),
    ],
)
def test_options(upres, tiny, tmp_path, options, size):
    out = tmp_path / "out.mp4"
    code, _, err = upres(tiny, out, *options)
    assert code == 0, err
    assert size_and_frames(out) == (*size, 12)
    assert ("x4 is the better choice" in err) == ("--chain" in options)


def test_json_tells_the_same_as_one_object_a_line(upres, tiny, tmp_path):
    code, out, _ = upres(tiny, tmp_path / "out.mp4", "--json", "--scale", "4", "--quality", "exact")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["event"] for event in events] == ["predicted", "done"]
    assert (events[0]["width"], events[0]["height"], events[0]["frames"]) == (192, 128, 12)
    assert (events[1]["frames_in"], events[1]["frames_out"]) == (12, 12)


def test_a_part_is_cut_out_with_times_as_players_show_them(upres, tiny, tmp_path):
    out = tmp_path / "out.mp4"
    code, _, err = upres(tiny, out, "--start", "0:00:00.12", "--duration", "0:0.04", "--model", "RealESRGAN_Vid_x2")
    assert code == 0
    assert "96x64, 1 frame, about" in err
    assert "1 frame in, 1 out" in err
    assert size_and_frames(out) == (96, 64, 1)


def test_nothing_is_predicted_of_a_part_that_is_not_there(upres, tiny, tmp_path):
    assert "about" not in upres(tiny, tmp_path / "out.mp4", "--start", "60")[2]


def test_a_still_is_the_frame_that_is_shown_then_and_may_stand_beside_its_source(upres, tiny, tmp_path):
    frame, both = tmp_path / "frame.png", tmp_path / "both.png"
    assert upres(tiny, frame, "--still", "0.2")[0] == 0 == upres(tiny, both, "--still", "0.2", "--compare")[0]
    assert size_and_frames(frame)[:2] == (192, 128)
    upscaled, pair = (np.asarray(Image.open(io.BytesIO(path.read_bytes()))) for path in (frame, both))
    assert (pair[:, 192:] == upscaled).all()
    with av.open(str(tiny)) as source:
        shown = list(source.decode(video=0))[5].reformat(192, 128, "rgb24", interpolation="BICUBIC").to_ndarray()
    assert np.abs(pair[:, :192].astype(int) - shown).mean() < 4


def test_lossless_goes_into_mkv(upres, tiny, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    tiny.rename(inputs / "a.mp4")
    assert upres(inputs, tmp_path / "out", "--lossless", "--model", "RealESRGAN_Vid_x2")[0] == 0
    assert size_and_frames(tmp_path / "out" / "a.mkv") == (96, 64, 12)


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from upres.service.cli.main import main

def watch(index):
    while not (index.exists() and b'"track": "video", "segment": 1' in index.read_bytes()):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=watch, args=[Path(sys.argv.pop(1))], daemon=True).start()
main()
"""


def test_an_interrupted_run_is_resumed_to_the_same_bytes(upres, tmp_path):
    """Interrupt from inside once the second segment is written, so that most of the work is left on any machine."""
    picture = "testsrc2=size=64x48:rate=10:duration=4"
    clip, target = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture=picture), tmp_path / "out.mp4"
    options = ["--segment", "0.2", "--model", "RealESRGAN_Vid_x2"]
    command = [sys.executable, "-c", INTERRUPTED, log_folder(target) / "index.jsonl", clip, target, *options]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 130
    assert b"--resume" in done.stderr
    assert not target.exists()
    assert upres(clip, target, *options, "--resume")[0] == 0
    assert upres(clip, tmp_path / "whole.mp4", *options)[0] == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
