"""The measurement of the CPUs' peak arithmetic runs on any machine at tiny sizes."""

import json
import subprocess
import sys

from paths import ROOT

from upres.engine.runtime.openvino_cpu import has_bfloat16


def test_every_precision_is_measured_and_the_machine_is_named(tmp_path):
    out = tmp_path / "peak.json"
    command = [sys.executable, ROOT / "bench" / "peak.py", "--sides", "64", "96", "--cpus", "1", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    rates = document["results"]["1 CPUs"]["operations_a_second"]
    names = {"fp32, NumPy", "fp32, OpenVINO", "int8, ONNX Runtime", *(["bf16, OpenVINO"] if has_bfloat16() else [])}
    assert rates.keys() == names
    assert all(sides.keys() == {"64", "96"} and min(sides.values()) > 0 for sides in rates.values())
    assert "openvino" in document["versions"] and document["machine"]["family"]
    assert len(done.stdout.splitlines()) == len(names)
