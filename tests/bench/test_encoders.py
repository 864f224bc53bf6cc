"""Segments encoded at once cost what one after the other do, and the bench fails where their bytes differ."""

import json
import subprocess
import sys

import media
from paths import ROOT


def test_every_number_of_encoders_is_measured_to_the_same_bytes(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=10:duration=2")
    out = tmp_path / "out.json"
    command = [sys.executable, ROOT / "bench" / "encoders.py", clip, out, "--encoders", "1", "3", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["same_bytes"] and [row["encoders"] for row in found["rows"]] == [1, 3]
    assert all(row["frames"] == 20 and row["cpu_ms_a_frame"] > 0 for row in found["rows"])
