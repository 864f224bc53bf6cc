"""Parity with the public implementation, and detection of a wrong rule."""

import importlib
import os
from pathlib import Path

import numpy as np
import paths
import pytest
from typer.testing import CliRunner

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.cli.checks import app  # noqa: E402 - after the check for torch

DATA = paths.DATA / "flashvsr"


def flashvsr_check(golden: Path):
    arguments = ["--weights", DATA / "weights.npz", "--golden", golden, "--config", DATA / "configuration.json"]
    return CliRunner().invoke(app, ["flashvsr-check", *map(str, arguments)])


@pytest.mark.parametrize("regime", ["dense", "sparse"])
def test_pytorch_and_onnx_agree_with_the_public_implementation(regime):
    result = flashvsr_check(DATA / f"pipeline_{regime}.npz")
    assert result.exit_code == 0, result.output
    assert "onnx c2.clean" in result.output
    assert result.output.count("0 of 1152 blocks flipped") == 2


def test_attention_in_groups_of_blocks_is_the_same(monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.graphs.transformer.SCORE_BYTES", 1)
    result = flashvsr_check(DATA / "pipeline_sparse.npz")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("fact", "wrong"), [("topk_ratio", 0.35), ("local_range", 2)])
def test_the_check_notices_another_rule_of_attention(tmp_path, fact, wrong):
    with np.load(DATA / "pipeline_sparse.npz") as file:
        values = dict(file)
    np.savez(tmp_path / "wrong.npz", **values | {fact: np.array(wrong)})
    result = flashvsr_check(tmp_path / "wrong.npz")
    assert result.exit_code == 1, result.output
    assert "FAIL onnx c2.clean" in result.output
