"""Tests that have passed on emulated ARM64 still pass there: the first evidence for ARM, and no more than that."""

import os
import shutil
import subprocess

import pytest
from paths import ROOT, SOAK, TESTS

SECONDS = 4 * 3600
SEEN = (
    "color",
    "core",
    "segments",
    "models/test_manifest.py",
    "models/test_tiling.py",
    "models/test_tuned.py",
    "runtime/engines",
    "runtime/ring",
    "runtime/test_ncnn_cpu.py",
    "runtime/test_ort.py",
    "runtime/test_ort_prelu.py",
)
"""Folders of tests/engine. The others have not been tried, because emulation takes a hundred times as long."""
NOT = "not that_ship and not tile_is_the_whole"  # these run whole networks on frames


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 60)
def test_the_engine_passes_its_tests_on_arm():
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("needs root on a Debian machine")
    SOAK.mkdir(exist_ok=True)
    command = [ROOT / ".ci" / "arm", "-k", NOT, *(TESTS / "engine" / name for name in SEEN)]
    with (SOAK / "arm.txt").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=SECONDS)
    assert done.returncode == 0, (SOAK / "arm.txt").read_text()[-4000:]
