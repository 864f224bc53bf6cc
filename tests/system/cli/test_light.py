"""A plain install works without `onnx`, which is hidden from these processes."""

import os
import subprocess
import sys

import media
import pytest
from marks import needs_openvino
from small_networks import SMALL, tensors, write_srvgg

WITHOUT_ONNX = """
import sys
sys.modules["onnx"] = None  # as if it were not installed
from upres.service.cli.main import main
main()
"""


def upres(*arguments, cwd):
    command = [sys.executable, "-c", WITHOUT_ONNX, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"UPRES_CACHE": str(cwd / "cache")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=needs_openvino), "ncnn"])
def test_every_runtime_upscales_eight_bits_and_ten(tmp_path, runtime):
    """Graphs are rewritten at load time: for ONNX Runtime's speed, for 16-bit frames, and into ncnn's layers."""
    for name, codec in (
        ("eight.mp4", ("-pix_fmt", "yuv420p")),
        ("ten.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le")),
    ):
        media.clip(tmp_path / name, *codec, "-frames:v", "2")
        output = upres(name, "-s", "2", "--runtime", runtime, "--quality", "exact", cwd=tmp_path)
        assert "2 frames in, 2 out" in output


def test_a_network_of_ones_own_is_exported_and_used(tmp_path):
    source = write_srvgg(tmp_path, SMALL, tensors(SMALL), name="small")
    media.clip(tmp_path / "in.mp4", "-frames:v", "2")
    assert "small" in upres("export", source, "--network", "small", cwd=tmp_path)
    assert "2 frames in, 2 out" in upres("in.mp4", "--model", "small", cwd=tmp_path)
