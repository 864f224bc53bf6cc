"""FlashVSR's graphs through a TensorRT builder that needs no GPU."""

import importlib
import os

import pytest

from upres.engine.core.errors import SettingsError

here = importlib.import_module if os.environ.get("CI") else pytest.importorskip
here("torch")
here("tensorrt_rtx")

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402
from upres.export.flashvsr.weights.configuration import Configuration  # noqa: E402
from upres.export.flashvsr.weights.random_weights import random_weights  # noqa: E402
from upres.export.trt.flashvsr_engines import build_engines  # noqa: E402

SMALL = Configuration(
    dim=256, heads=2, layers=2, ffn=96, text_dim=24, freq_dim=16, projector=(64, 96), decoder=(64, 32, 16, 16)
)
TILES = ((128, 256),)


@pytest.mark.parametrize(("precision", "exact"), [("fp32", True), ("fp16", False), ("bf16", True)])
def test_every_graph_builds_to_the_same_bytes_twice(tmp_path, monkeypatch, precision, exact):
    folder = tmp_path / "graphs"
    manifest = write_graphs(random_weights(SMALL, prompt_tokens=10), folder, Settings(TILES, precision, exact))
    engines = list(build_engines(folder, tmp_path / "one"))
    assert {engine.graph for engine in engines} == manifest.graphs.keys()
    assert len({engine.path for engine in engines}) == 4 * len(TILES)
    assert all(engine.path.stat().st_size == engine.nbytes > 100_000 for engine in engines)
    # Again from elsewhere: another folder, another environment, other lengths of every path.
    moved = folder.rename(tmp_path / "graphs in another folder, with a name of some length")
    monkeypatch.setenv("SOMETHING", "else" * 1000)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.chdir("/")
    again = list(build_engines(moved, tmp_path / "two" / "deeper"))
    assert [(engine.graph, engine.sha256) for engine in again] == [(engine.graph, engine.sha256) for engine in engines]


def test_an_unknown_capability_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"unknown compute capability 'SM10'; this version has: .*SM89"):
        list(build_engines(tmp_path, tmp_path, capability="SM10"))
