"""Both transports of frames between an attempt and its worker are measured."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

SMALL = "import frames_between as bench; bench.SIZES, bench.ROUNDS = ((64, 48), (96, 64)), 2; bench.main()"


@pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
def test_the_socket_and_the_shared_memory_are_measured_at_every_size(tmp_path):
    command = [sys.executable, "-c", SMALL, tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT / "bench")
    assert done.returncode == 0, done.stderr
    sizes = json.loads((tmp_path / "out.json").read_text())["sizes"]
    assert [row.pop("upscaled") for row in sizes] == ["128x96", "192x128"]
    assert all(value >= 0 and name.startswith(("socket_", "shared_")) for row in sizes for name, value in row.items())
    assert all(len(row) == 4 for row in sizes) and "128x96" in done.stdout
