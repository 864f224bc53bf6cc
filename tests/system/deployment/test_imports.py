"""Processes import only what they need: decoders and clients start fast, and contain nothing useful to an attacker."""

import os
import subprocess
import sys

import pytest

HEAVY = ("grpc", "sqlalchemy", "fastapi", "uvicorn", "obstore", "alembic", "prometheus_client", "opentelemetry")


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("upres.service.execution.fork_parent", HEAVY),
        ("upres.service.execution.worker", HEAVY),
        ("upres.service.execution.probe.probe", HEAVY),
        (
            "upres.service.client",
            ("sqlalchemy", "fastapi", "uvicorn", "obstore", "alembic", "av", "numpy", "onnxruntime"),
        ),
    ],
)
def test_a_process_imports_what_it_needs(module, unneeded):
    code = f"import sys, {module}; print(*(name for name in {unneeded!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_what_runs_networks_reports_to_nobody(tmp_path):
    """By default, both runtimes store an identity for telemetry in the home folder."""
    code = "from upres.engine import load; [load('RealESRGAN_Vid_x2', runtime=each) for each in ('openvino', 'onnxruntime')]"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "", "LOCALAPPDATA": str(tmp_path)}
    environment = {
        name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY" and name != "CI"
    }
    subprocess.run([sys.executable, "-c", code], env=environment | home, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
