"""The scan for activations that do not fit in float16."""

import importlib
import os
from dataclasses import replace

import pytest

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402
from upres.export.flashvsr.verify.activation_scan import ActivationScan  # noqa: E402
from upres.export.flashvsr.verify.compare import compare_export  # noqa: E402


def test_the_scan_does_not_see_the_squares_of_a_norm_that_stays_in_float32(tmp_path):
    name = "blocks.0.self_attn.q.weight"
    large = replace(WEIGHTS, dit={**WEIGHTS.dit, name: WEIGHTS.dit[name] * 300})
    settings = Settings(((128, 128),), "fp16")
    write_graphs(large, tmp_path, settings)
    with ActivationScan() as scan:
        differences = compare_export(large, tmp_path, settings)
    assert max(differences.values()) < 2e-3  # it does fit
    assert max(scan.largest.values()) < 65504


def test_the_scan_sees_what_would_overflow():
    with ActivationScan() as scan:
        torch.ones(3) * 70_000
    assert max(scan.largest.values()) == 70_000
