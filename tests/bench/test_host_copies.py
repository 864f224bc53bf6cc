"""The host's copies of a frame between an attempt and a GPU are measured step by step."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

SMALL = "import host_copies as bench; bench.SIZES, bench.ROUNDS = ((64, 48), (1200, 40)), 2; bench.main()"


@pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
def test_every_step_is_counted_and_timed_for_frames_of_one_tile_and_of_several(tmp_path):
    command = [sys.executable, "-c", SMALL, tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT / "bench")
    assert done.returncode == 0, done.stderr
    one, several = json.loads((tmp_path / "out.json").read_text())["sizes"]
    assert (one["tiles"], several["tiles"]) == (1, 2)
    sent, received, tiled, joined, returned = (step["mb"] for step in several["steps"].values())
    assert sent == received == 0.07 and tiled > received and joined == returned == pytest.approx(4 * 0.072, abs=0.005)
    for row in (one, several):
        assert len(row["steps"]) == 5 and row["worker_ms"] >= row["spared_at_most_ms"] >= 0
