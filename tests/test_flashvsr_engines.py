"""FlashVSR's graphs through a TensorRT builder that needs no GPU."""

import importlib
import os

import pytest
from upres.engine.errors import SettingsError

here = importlib.import_module if os.environ.get("CI") else pytest.importorskip
here("torch")
here("tensorrt_rtx")

from upres.export.flashvsr_engines import build_engines  # noqa: E402 - after the checks
from upres.export.flashvsr_onnx import Settings, write_graphs  # noqa: E402
from upres.export.flashvsr_weights import Configuration, random_weights  # noqa: E402

SMALL = Configuration(
    dim=128, heads=1, layers=1, ffn=96, text_dim=24, freq_dim=16, projector=(8, 12), decoder=(8, 8, 4, 4)
)


@pytest.mark.parametrize(("precision", "exact"), [("fp32", True), ("fp16", False), ("bf16", True)])
def test_every_graph_builds(tmp_path, precision, exact):
    weights = random_weights(SMALL, prompt_tokens=10)
    manifest = write_graphs(weights, tmp_path, Settings(((256, 256),), precision, exact))
    engines = list(build_engines(tmp_path, tmp_path))
    assert {engine.graph for engine in engines} == manifest.graphs.keys()
    assert all(engine.path.stat().st_size == engine.nbytes > 100_000 for engine in engines)


def test_an_unknown_capability_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"unknown compute capability 'SM10'; this version has: .*SM89"):
        list(build_engines(tmp_path, tmp_path, capability="SM10"))
