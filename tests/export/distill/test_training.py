"""Training: reproducible bytes for a seed, even after interruptions, and weights that the exporter accepts."""

import importlib
import os

import numpy as np
import pytest
from reference_frames import run_graph
from small_networks import frame

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.distill.patches import Patches, batches  # noqa: E402
from upres.export.distill.soap import SOAP  # noqa: E402
from upres.export.distill.student import Student, tensors  # noqa: E402
from upres.export.distill.training import Plan, difference, rate, train  # noqa: E402
from upres.export.families.srvgg import SRVGG  # noqa: E402

TINY = SRVGG(4, 1, 2)
BLOCKS = SRVGG(6, 1, 2, block=2)


def patches(count=6, side=24):
    """Return random pixels as inputs, and the same pixels repeated and brightened as targets."""
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
    messages = []
    train(TINY, patches(), plan(600, rate=1e-2), tmp_path / "c.pt", report=messages.append)
    first, *_, last = (float(line.rpartition(" ")[2]) for line in messages)
    assert last < first / 2


def test_the_exporter_gets_what_the_graph_stores_without_loss(tmp_path):
    found = tensors(train(TINY, patches(), plan(1), tmp_path / "c.pt"))
    network = SRVGG.recognize(found)
    assert network == TINY
    assert {name: tensor.shape for name, tensor in found.items()} == network.shapes()
    assert all(np.array_equal(tensor.astype(np.float16).astype(np.float32), tensor) for tensor in found.values())


@pytest.mark.parametrize("network", [TINY, BLOCKS], ids=str)
def test_the_student_computes_what_its_family_does(network):
    torch.manual_seed(1)
    student, pixels = Student(network), frame(20, 12)
    with torch.no_grad():
        levels = 255 * student(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    ours = levels.clip(0, 255).round()[0].permute(1, 2, 0).numpy().astype(int)
    graph = network.write(tensors(student.state_dict()), network.scale, "x")
    assert np.abs(ours - run_graph(graph, pixels)).max() <= 1


def test_the_learning_rate_falls_in_the_last_quarter_so_that_more_steps_can_be_added_before():
    rates = [rate(plan(4000), step) for step in (0, 200, 2999, 3500, 3999)]
    assert rates[0] < rates[1] == rates[2] == plan(1).rate > rates[3] > rates[4] > 0
    assert rate(plan(8000), 2999) == rates[2]


def test_the_optimizer_reaches_the_minimum_of_a_badly_scaled_problem():
    torch.manual_seed(1)
    scales = torch.diag(torch.logspace(0, -3, 6)) @ torch.linalg.qr(torch.randn(6, 6))[0]
    target, errors = torch.randn(4, 6), {}
    for optimizer in (SOAP, torch.optim.Adam):
        weight = torch.nn.Parameter(torch.zeros(4, 6))
        steps = optimizer([weight], 0.05)
        for _ in range(400):
            steps.zero_grad()
            ((weight - target) @ scales.T).square().sum().backward()
            steps.step()
        errors[optimizer] = float(((weight - target) @ scales.T).detach().square().sum())
    assert errors[SOAP] < 0.2 * errors[torch.optim.Adam]


def test_an_error_that_repeats_with_the_blocks_of_the_network_costs_more_than_the_same_error_elsewhere():
    pattern = torch.zeros(4, 4)
    pattern[1, 2] = 0.1
    repeated = pattern.repeat(8, 8).expand(1, 3, 32, 32)
    shifted = repeated.clone().reshape(1, 3, -1, 32)
    torch.manual_seed(1)
    shifted = shifted[..., torch.randperm(32), :][..., torch.randperm(32)]
    target = torch.zeros(1, 3, 32, 32)
    assert difference(repeated, target, 4) > 1.05 * difference(shifted, target, 4)
    assert float(difference(target + 0.1, target, 4)) == pytest.approx(0.1, rel=1e-3)  # another color is no pattern


def test_kernels_decay(tmp_path, monkeypatch):
    kept = train(TINY, patches(), plan(20), tmp_path / "a.pt")
    monkeypatch.setattr("upres.export.distill.training.DECAY", 100.0)
    decayed = train(TINY, patches(), plan(20), tmp_path / "b.pt")
    for name, value in kept.items():
        assert value.ndim != 4 or decayed[name].norm() < 0.9 * value.norm()
