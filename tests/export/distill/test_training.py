"""Training: the same bytes for a seed, interrupted or not; what it gives is what its exporter takes."""

import importlib
import os

import numpy as np
import pytest
from small_networks import frame

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.distill.patches import Patches, batches  # noqa: E402
from upres.export.distill.student import tensors  # noqa: E402
from upres.export.distill.training import Plan, train  # noqa: E402
from upres.export.families.srvgg import SRVGG  # noqa: E402

TINY = SRVGG(4, 1, 2)


def patches(count=6, side=24):
    """Random pixels, and each repeated twice and brightened as what a teacher made of them."""
    inputs = np.stack([frame(side, side, seed) // 2 for seed in range(count)])
    return Patches(inputs, inputs.repeat(2, axis=1).repeat(2, axis=2) + 64)


def plan(steps, **kwargs):
    return Plan(steps, batch=2, side=16, **kwargs)


def weights(state):
    return {name: value.numpy().tobytes() for name, value in state.items()}


def test_a_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    first, again, other = (
        weights(train(TINY, patches(), plan(3, seed=seed), tmp_path / f"{index}.pt"))
        for index, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert first != other


def test_a_run_that_was_interrupted_ends_in_the_same_bytes(tmp_path, monkeypatch):
    whole = weights(train(TINY, patches(), plan(6), tmp_path / "whole.pt"))
    steps = []

    def interrupt(*args):
        for batch in batches(*args):
            if len(steps) == 4:
                raise KeyboardInterrupt
            steps.append(batch)
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr("upres.export.distill.training.batches", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, patches(), plan(6, every=0.0), tmp_path / "cut.pt")
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["step"] == 4
    assert weights(train(TINY, patches(), plan(6), tmp_path / "cut.pt")) == whole


def test_it_learns_what_the_teacher_does(tmp_path):
    said = []
    train(TINY, patches(), plan(600, rate=1e-2), tmp_path / "c.pt", report=said.append)
    first, *_, last = (float(line.rpartition(" ")[2]) for line in said)
    assert last < first / 2


def test_a_student_of_another_scale_starts_from_its_body(tmp_path):
    train(TINY, patches(), plan(2), tmp_path / "x2.pt")
    done = torch.load(tmp_path / "x2.pt", weights_only=True)["averaged"]
    larger = Patches(patches().inputs, patches().targets.repeat(2, axis=1).repeat(2, axis=2))
    begun = train(SRVGG(4, 1, 4), larger, plan(1, rate=0.0), tmp_path / "x4.pt", start=tmp_path / "x2.pt")
    assert torch.equal(begun["body.0.weight"], done["body.0.weight"])
    assert begun["body.4.weight"].shape[0] == 48


def test_the_exporter_gets_what_the_graph_stores_without_loss(tmp_path):
    found = tensors(train(TINY, patches(), plan(1), tmp_path / "c.pt"))
    network = SRVGG.recognize(found)
    assert network == TINY
    assert {name: tensor.shape for name, tensor in found.items()} == network.shapes()
    assert all(np.array_equal(tensor.astype(np.float16).astype(np.float32), tensor) for tensor in found.values())
