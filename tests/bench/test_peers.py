"""The comparison with other programs: installed ones run at a tiny size, missing ones have no figures; ratios are correct."""

import importlib
import json
import subprocess
import sys

import pytest
from paths import ROOT

BENCH = ROOT / "bench" / "peers.py"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCH.parent)
    return importlib.import_module("peers")


def test_candidates_alternate_at_every_size_and_missing_ones_have_no_figures(tmp_path):
    out = tmp_path / "peers.json"
    here = tmp_path / "ncnn" / "bin"  # an environment with ONNX Runtime: the current one
    here.mkdir(parents=True)
    (here / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (here / "python").chmod(0o755)
    words = ["--environments", tmp_path, "--parts", "raw", "--sizes", "24x16", "17x9", "--rounds", "1", "--wait", "0"]
    options = ["--ways", "upres exact", "ONNX Runtime fp32", "ncnn fp32", "--out", out]
    done = subprocess.run(
        [sys.executable, BENCH, *map(str, words + options)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())["results"]
    assert [name.rsplit(",", 1)[0] for name in results] == ["raw, 24x16", "raw, 17x9"]
    for part in results.values():
        rows = part["rows"]
        assert rows["upres exact"]["seconds"] > 0 and rows["ONNX Runtime fp32"]["cpu"] >= 0
        assert rows["upres exact"]["psnr"] is None or rows["upres exact"]["psnr"] > 80
        assert rows["ncnn fp32"] == {"psnr": None}  # the package with its weights is not installed
        assert "times as fast as ONNX Runtime fp32; the goal is 1.0" in part["goals"]["upres exact"]


def test_exact_is_compared_with_float32_only_and_high_with_all_other_programs(peers):
    upres_seconds = {"upres exact": 2.0, "upres exact, ncnn": 1.0, "upres high": 1.0, "upres fast": 0.6}
    seconds = {**upres_seconds, "PyTorch fp32": 3.0, "ncnn bf16": 1.5}
    rows = {name: {"seconds": each} for name, each in seconds.items()} | {"framelift torch": {}}
    raw, clip = (peers.against_goals(title, rows, "seconds") for title in ("raw, 640x360", "clip, x.mp4"))
    assert raw["upres exact"].startswith("1.50 times as fast as PyTorch fp32")
    assert raw["upres high"].startswith("1.50 times as fast as ncnn bf16")
    assert raw["upres fast"] == "2.50 times as fast as ncnn bf16; the goal is 2.0"
    assert clip["upres exact"].startswith("0.75 times as fast as ncnn bf16; the goal is 1.3")


def test_the_table_is_in_the_order_of_speed_and_names_what_failed_last(peers):
    rows = {"a": {}, "b": {"seconds": 2.0, "cpu": 3.0, "psnr": 95.04}, "c": {"seconds": 1.0, "cpu": 1.0, "psnr": None}}
    _, *lines = peers.table(rows)
    assert [line[:4] for line in lines] == ["| c ", "| b ", "| a "]
    assert lines[1] == "| b | 2.000 | 3.000 | 95.04 |" and lines[2] == "| a | – | – | – |"


def test_a_clip_is_upscaled_by_upres_itself_and_by_the_loop_of_others(peers, tmp_path):
    bench = peers.Bench(tmp_path, tmp_path)
    source = tmp_path / "in.mp4"
    import av
    import numpy as np

    with av.open(str(source), "w") as writer:
        stream = writer.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for _ in range(3):
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")))
        writer.mux(stream.encode())
    assert peers.one_clip(bench, "upres exact", source)["seconds"] > 0
    importlib.import_module("peer").clip(
        lambda pixels: pixels.repeat(4, 0).repeat(4, 1), str(source), str(tmp_path / "o.mp4")
    )
    with av.open(str(tmp_path / "o.mp4")) as reader:
        assert [(frame.width, frame.height) for frame in reader.decode(video=0)] == [(128, 64)] * 3
