"""Engines of FlashVSR's graphs from a TensorRT builder that needs no GPU."""

import importlib
import os

import pytest

from upres.engine.machine.nvidia import Driver

here = importlib.import_module if os.environ.get("CI") else pytest.importorskip
here("torch")
here("tensorrt_rtx")

from upres.engine.runtime.engines.first_run import compare, fixed_inputs  # noqa: E402
from upres.engine.runtime.engines.manifest import read  # noqa: E402
from upres.engine.runtime.ort import OnnxRuntimeGraph  # noqa: E402
from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402
from upres.export.flashvsr.weights.configuration import Configuration  # noqa: E402
from upres.export.flashvsr.weights.random_weights import random_weights  # noqa: E402
from upres.export.trt.builder import find  # noqa: E402
from upres.export.trt.engine import inputs_of  # noqa: E402
from upres.export.trt.flashvsr_engines import build_engines  # noqa: E402

SMALL = Configuration(
    dim=256, heads=2, layers=2, ffn=96, text_dim=24, freq_dim=16, projector=(64, 96), decoder=(64, 32, 16, 16)
)
TILES = ((128, 256),)
SIZES = {"T": 1, "4*T": 4, "H": 128, "W": 256} | {f"H/{n}": 128 // n for n in (2, 4, 8, 16)}
SIZES |= {f"W/{n}": 256 // n for n in (2, 4, 8, 16)}


@pytest.mark.parametrize(
    ("precision", "exact"), [("fp32", True), ("fp16", False), pytest.param("bf16", True, marks=pytest.mark.soak)]
)
def test_every_graph_builds_to_the_same_bytes_twice(tmp_path, monkeypatch, precision, exact):
    folder = tmp_path / "graphs"
    manifest = write_graphs(random_weights(SMALL, prompt_tokens=10), folder, Settings(TILES, precision, exact))
    rtx = find("tensorrt-rtx", Driver(None, None, (), "no driver", False))
    command = (
        None if precision == "bf16" else "upres export FlashVSR_Tiny"
    )  # no CPU runtime can compute bf16's first run
    engines = list(build_engines(folder, tmp_path / "one", builder=rtx, command=command))
    assert {engine.graph for engine in engines} == manifest.graphs.keys()
    assert len({engine.path for engine in engines}) == 4 * len(TILES)
    assert all(engine.path.stat().st_size == engine.nbytes > 100_000 for engine in engines)
    assert all(command is None or _first_run_is_its_graphs(engine, folder) for engine in engines)
    # Build again with another folder, another environment, and paths of other lengths.
    moved = folder.rename(tmp_path / "graphs in another folder, with a name of some length")
    monkeypatch.setenv("SOMETHING", "else" * 1000)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.chdir("/")
    again = list(build_engines(moved, tmp_path / "two" / "deeper", builder=rtx))
    assert [(engine.graph, engine.sha256) for engine in again] == [(engine.graph, engine.sha256) for engine in engines]


def _first_run_is_its_graphs(engine, folder):
    """Check an engine's first run with the graph that it was built from, on a CPU."""
    known, graph = read(engine.path), folder / engine.graph
    inputs = inputs_of(graph, SIZES)
    assert known.contents.inputs == {name: shape for name, (shape, _) in inputs.items()}
    compare(engine.path, known, fixed_inputs(inputs), OnnxRuntimeGraph(graph, 2).run)
    return True
