"""Training: reproducible bytes for a seed, even after interruptions, and weights that the exporter accepts."""

import importlib
import os

import numpy as np
import pytest
from small_networks import frame

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.engine.models import manifest  # noqa: E402
from upres.engine.runtime.ort import OnnxRuntimeGraph  # noqa: E402
from upres.export.distill.patches import Patches, batches  # noqa: E402
from upres.export.distill.student import Student, read_student, tensors  # noqa: E402
from upres.export.distill.training import Plan, _start_from, train  # noqa: E402
from upres.export.families.srvgg import SRVGG  # noqa: E402

TINY = SRVGG(4, 1, 2)


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


@pytest.mark.parametrize("wider", [SRVGG(4, 1, 4), SRVGG(7, 1, 4), SRVGG(6, 1, 2)], ids=str)
def test_a_wider_student_of_this_scale_or_twice_it_begins_as_the_one_before(wider):
    torch.manual_seed(1)
    narrow, student = Student(TINY), Student(wider)
    _start_from(student, narrow.state_dict())
    with torch.no_grad():
        x = torch.rand(1, 3, 9, 7)
        expected = torch.nn.functional.interpolate(narrow(x), scale_factor=wider.scale / 2)
        assert torch.allclose(student(x), expected, atol=1e-6)


def test_what_is_added_to_a_wider_student_learns_too(tmp_path):
    trained = train(SRVGG(6, 1, 2), patches(), plan(40), tmp_path / "c.pt", start=Student(TINY).state_dict())
    assert trained["body.4.weight"][:, 4:].abs().max() > 0  # weights of channels that the narrow student lacks


def test_the_exporter_gets_what_the_graph_stores_without_loss(tmp_path):
    found = tensors(train(TINY, patches(), plan(1), tmp_path / "c.pt"))
    network = SRVGG.recognize(found)
    assert network == TINY
    assert {name: tensor.shape for name, tensor in found.items()} == network.shapes()
    assert all(np.array_equal(tensor.astype(np.float16).astype(np.float32), tensor) for tensor in found.values())


def test_the_weights_of_a_student_that_ships_are_read_out_of_its_graph():
    found = read_student("realesr-live-x2")
    network = SRVGG.recognize({name: value.numpy() for name, value in found.items()})
    assert network == SRVGG(16, 7, 2)
    student = Student(network)
    student.load_state_dict(found)
    path, pixels = manifest.find("realesr-live-x2")[0], frame(20, 12)
    with torch.no_grad():
        levels = 255 * student(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    ours = levels.clip(0, 255).round()[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - OnnxRuntimeGraph(path, 1).run({"frame": pixels[None]})["upscaled"][0].astype(int)).max() <= 1
