"""The measurements of FlashVSR, on a small configuration."""

import importlib
import json
import os

import pytest
from typer.testing import CliRunner

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import SMALL  # noqa: E402 - after the check for torch

from upres.export.cli.checks import app  # noqa: E402


def measure(*words):
    result = CliRunner().invoke(app, ["flashvsr-measure", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_export_steps_and_verification(tmp_path, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.measure.Configuration", lambda: SMALL)
    assert "peak so far" in measure(tmp_path, "--export", "--profile", "128x128")[0]
    steps = measure(tmp_path)
    assert [line.split(",")[0] for line in steps] == ["projector", "decoder", "first-128x128.onnx", "next-128x128.onnx"]
    assert all("then" in line for line in steps)
    *differences, cost = measure(tmp_path, "--verify", "--results", tmp_path / "results.json")
    assert len(differences) == 3
    assert all(float(line.split()[1]) < 1e-5 for line in differences)
    assert "peak so far" in cost
    measure(tmp_path, "--results", tmp_path / "results.json")
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["machine"]["cpus"] > 0
    verified, steps = kept["results"].values()
    assert verified["from_pytorch"].keys() == {"tokens", "clean", "frames"}
    assert [len(cost["seconds"]) for cost in steps["costs"]] == [2, 2, 2, 2]
