"""The measurement of B-frames works on any clip."""

import json
import subprocess
import sys

import media
from paths import ROOT


def test_sizes_with_and_without_are_compared_at_equal_psnr(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", picture="testsrc2=size=64x48:rate=10:duration=1")
    out = tmp_path / "out.json"
    command = [sys.executable, ROOT / "bench" / "b_frames.py", clip, "--seconds", "0.5", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    [result] = json.loads(out.read_text())["clips"].values()
    for points in result["points"].values():
        sizes, psnr = zip(*points, strict=True)
        assert sorted(sizes, reverse=True) == list(sizes) and sorted(psnr, reverse=True) == list(psnr)
    assert 0 < result["size_ratio"] < 2 and "of the size at equal PSNR" in done.stdout
