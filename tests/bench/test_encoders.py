"""The measurement of concurrent encoders, which fails if their bytes differ."""

import json
import subprocess
import sys

import media
import pytest
from paths import ROOT


def test_every_number_of_encoders_is_measured_to_the_same_bytes(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=10:duration=2")
    out = tmp_path / "out.json"
    command = [
        sys.executable,
        ROOT / "bench" / "encoders.py",
        clip,
        out,
        "--encoders",
        "1",
        "3",
        "--rounds",
        "1",
        "--kept",
        "--held",
        "7",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    rows = [(row["encoders"], row["memory_kept"], row["held"]) for row in document["rows"]]
    expected = [(1, False, 0), (1, True, 0), (3, False, 0), (3, True, 0), (1, False, 7), (1, True, 7)]
    assert document["same_bytes"] and rows == expected
    for row in document["rows"]:
        parts = row["user_ms_a_frame"] + row["system_ms_a_frame"]
        assert row["frames"] == 20 and row["user_ms_a_frame"] > 0 < row["faults_a_frame"]
        assert parts == pytest.approx(row["cpu_ms_a_frame"], abs=0.02)
