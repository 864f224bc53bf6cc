"""A graph in two forms: for the most frequent shape, and generic."""

import subprocess
import sys

import numpy as np
import pytest
from marks import needs_openvino

from upres.engine.core.errors import ModelError
from upres.engine.models import manifest
from upres.engine.runtime import openvino_cpu, registry
from upres.engine.runtime.by_shape import ByShape

FRAME = np.zeros((1, 48, 64, 3), np.uint8)
BOX = FRAME[:, :32, :32]


class Form:
    """A graph whose result shows which of its forms ran."""

    report, memory_factor = "test", 1.0

    def __init__(self, name, forms):
        self.name, self.forms, self.releases = name, forms, 0
        forms.append(self)

    def run(self, feeds):
        return {"ran": self.name}

    def release(self):
        self.releases += 1


class AnyShape(Form):
    def fixed(self, shapes):
        return Form(shapes["frame"], self.forms)


@pytest.fixture
def forms():
    return []


def ran(graph, *frames):
    return [graph.run({"frame": frame})["ran"] for frame in frames]


def test_the_shape_of_the_first_run_gets_a_form_of_its_own(forms):
    assert ran(ByShape(AnyShape("any", forms)), FRAME, FRAME, BOX, FRAME) == [
        FRAME.shape,
        FRAME.shape,
        "any",
        FRAME.shape,
    ]
    assert len(forms) == 2


def test_where_it_cannot_be_compiled_for_a_shape_the_form_for_any_runs(forms):
    class Unfixable(AnyShape):
        def fixed(self, shapes):
            raise ModelError("no memory for it")

    assert ran(ByShape(Unfixable("any", forms)), FRAME, BOX, FRAME) == ["any", "any", "any"]


def test_only_the_form_that_ran_last_keeps_memory(forms):
    graph = ByShape(AnyShape("any", forms))
    ran(graph, FRAME, FRAME)
    anything, whole = forms
    assert (anything.releases, whole.releases) == (0, 0)
    ran(graph, BOX, BOX)
    assert (anything.releases, whole.releases) == (0, 1)
    ran(graph, FRAME)
    assert (anything.releases, whole.releases) == (1, 1)
    graph.close()
    assert (anything.releases, whole.releases) == (1, 2)


def test_a_graph_that_has_one_form_runs_as_it_is(forms):
    graph = ByShape(Form("only", forms))
    assert ran(graph, FRAME, BOX) == ["only", "only"]
    graph.close()
    assert forms[0].releases == 0


@pytest.mark.parametrize("network", ["realesr-live-x2", "realesr-live-x4", "realesr-animevideov3-x4"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@needs_openvino
def test_both_forms_of_openvino_give_the_same_bits(network, precision):
    runtime = registry.load("openvino")
    path, facts = manifest.find(network)
    variant = facts.variant("fast", (precision,))
    if precision not in runtime.precisions() or variant.precision != precision:
        pytest.skip(f"there is no {network} in {precision} here")
    graph = runtime.load(path.with_name(variant.file), precision)
    frame = np.random.default_rng(0).integers(0, 256, FRAME.shape, np.uint8)
    fixed = graph.fixed({"frame": FRAME.shape})
    assert fixed is not graph
    assert np.array_equal(fixed.run({"frame": frame})["upscaled"], graph.run({"frame": frame})["upscaled"])
    fixed.release()
    assert np.array_equal(fixed.run({"frame": frame})["upscaled"], graph.run({"frame": frame})["upscaled"])


@needs_openvino
def test_the_latest_form_of_openvino_serves_the_next_session_and_heavy_graphs_have_one(monkeypatch):
    path, _ = manifest.find("realesr-live-x2")
    graph = registry.load("openvino").load(path, "fp32")
    first = graph.fixed({"frame": FRAME.shape})
    assert graph.fixed({"frame": FRAME.shape}) is first
    assert graph.fixed({"frame": BOX.shape}) is not first
    monkeypatch.setattr(openvino_cpu, "MANY_WEIGHTS", 1)
    heavy = registry.load("openvino").load(path, "fp32")
    assert heavy.fixed({"frame": FRAME.shape}) is heavy


SIGNALLED = """
import signal, threading
from upres.engine.models import manifest
from upres.engine.runtime import registry

graph = registry.load("openvino").load(manifest.find("realesr-live-x2")[0], "fp32")
graph.fixed({"frame": (1, 48, 64, 3)})
other = threading.Thread(target=graph.fixed, args=({"frame": (1, 32, 32, 3)},))
other.start()
other.join()
signal.signal(signal.SIGTERM, lambda *_: print("taken"))
signal.raise_signal(signal.SIGTERM)
"""


@needs_openvino
def test_a_signal_comes_as_it_should_after_another_thread_has_dropped_what_was_compiled():
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False, timeout=250)
    assert (done.returncode, done.stdout) == (0, "taken\n"), done.stderr


MANY_SIZES = """
import itertools, numpy, psutil
from upres.engine.models import manifest
from upres.engine.runtime import registry

path, facts = manifest.find("realesr-live-x2")
graph = registry.load("openvino").load(path.with_name(facts.variant("fast", ("int8",)).file), "int8")
graph.run({"frame": numpy.zeros((1, 80, 80, 3), numpy.uint8)})
before = psutil.Process().memory_info().rss
for height, width in itertools.product(range(48, 80, 2), repeat=2):
    graph.run({"frame": numpy.zeros((1, height, width, 3), numpy.uint8)})
print((psutil.Process().memory_info().rss - before) >> 20)
"""


@needs_openvino
def test_the_memory_of_the_form_for_any_size_does_not_grow_with_the_number_of_sizes():
    """256 sizes of boxes. OpenVINO would keep code for all of them: 370 MB on a CPU with AVX-512."""
    done = subprocess.run([sys.executable, "-c", MANY_SIZES], capture_output=True, text=True, check=True, timeout=250)
    assert int(done.stdout) < 180
