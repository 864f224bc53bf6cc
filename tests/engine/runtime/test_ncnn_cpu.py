"""ncnn yields the same results as ONNX Runtime for all networks on frames, and rejects other graphs."""

import os
import sys

import numpy as np
import onnx
import pytest
from onnx import helper
from small_networks import RRDB, SMALL, frame, tensors

from upres.engine.core.errors import ModelError
from upres.engine.models import manifest
from upres.engine.models.catalog import NETWORKS
from upres.engine.runtime.ncnn_cpu import Ncnn
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.tuning.picture import picture

SHIPPED = [name for name, network in NETWORKS.items() if network.ships]


def written(folder, net, scale):
    path = folder / "small.onnx"
    path.write_bytes(net.write(tensors(net), scale, "small"))
    return path


def pair(path, pixels):
    """Return the results of ncnn and of ONNX Runtime."""
    graphs = Ncnn().load(path, "fp32"), OnnxRuntimeGraph(path, 1)
    return [graph.run({"frame": pixels[None]})["upscaled"].astype(int) for graph in graphs]


@pytest.mark.parametrize("name", SHIPPED)
def test_networks_that_ship_are_90_db_from_onnx_runtime_and_nowhere_more_than_a_level(name):
    result, reference = pair(manifest.find(name)[0], picture(128, 96))
    assert result.shape == reference.shape and reference.std() > 10
    assert np.abs(result - reference).max() <= 1
    assert np.mean((result - reference) ** 2) < 255**2 / 10**9


@pytest.mark.parametrize(
    ("net", "scale"), [(SMALL, 4), (SMALL, 2), (RRDB(8, 4, 1, 4), 4), (RRDB(8, 4, 1, 2), 2)], ids=str
)
@pytest.mark.parametrize("size", [(2, 2), (34, 18)])
def test_both_families_at_both_scales_and_any_size(tmp_path, net, scale, size):
    result, reference = pair(written(tmp_path, net, scale), frame(*size))
    assert result.shape == reference.shape == (1, size[1] * scale, size[0] * scale, 3)
    assert np.abs(result - reference).max() <= 1


def test_a_tile_is_the_whole_frame_to_a_level():
    path, facts = manifest.find("realesr-animevideov3-x4")
    graph, pixels = Ncnn().load(path, "fp32"), picture(120, 90)
    whole, tile = (graph.run({"frame": part[None]})["upscaled"][0].astype(int) for part in (pixels, pixels[:, :70]))
    inner = 4 * (70 - facts.halo)
    assert np.abs(whole[:, :inner] - tile[:, :inner]).max() <= 1


def test_results_stay_when_the_graph_runs_again(tmp_path):
    graph = Ncnn().load(written(tmp_path, SMALL, 4), "fp32")
    first = graph.run({"frame": frame(9, 7)[None]})["upscaled"]
    kept = first.copy()
    graph.run({"frame": frame(9, 7, seed=1)[None]})
    np.testing.assert_array_equal(first, kept)


def changed(folder, change):
    model = onnx.load(written(folder, SMALL, 4))
    change(model.graph)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def other_operator(graph):
    next(node for node in graph.node if node.op_type == "PRelu").op_type = "Pow"


def other_padding(graph):
    conv = next(node for node in graph.node if node.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("strides", [2, 2]))


def no_frame(graph):
    del graph.node[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_operator, "is a Pow, which is not supported"),
        (other_padding, "is a Conv, which is not supported"),
        (no_frame, "from a frame"),
    ],
)
def test_graphs_that_are_not_converted_whole_are_refused(tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        Ncnn().load(changed(tmp_path, change), "fp32")


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"x\.onnx"):
        Ncnn().load(tmp_path / "x.onnx", "fp32")


@pytest.mark.parametrize("policy", [None, "active"])
def test_its_threads_sleep_while_they_wait_unless_the_environment_decides(monkeypatch, policy):
    seen = []

    class Finder:
        @staticmethod
        def find_spec(name, *_):
            if name == "ncnn":
                seen.append(os.environ.get("OMP_WAIT_POLICY"))

    monkeypatch.delitem(sys.modules, "ncnn", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder])
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert Ncnn().unavailable() is not None
    assert seen == [policy or "passive"]
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_it_is_taken_by_name_or_by_what_was_measured_and_says_what_it_lacks(monkeypatch):
    assert Ncnn().preference == 0 and Ncnn().precisions() == ("fp32",) and Ncnn().unavailable() is None
    monkeypatch.setitem(sys.modules, "ncnn", None)
    assert "pip install ncnn" in Ncnn().unavailable()
