"""FlashVSR's graphs on disk: determinism, failures, and limits of runtimes."""

from dataclasses import replace

import numpy as np
import onnx
import paths
import pytest

from upres.engine.core.errors import ModelError, SettingsError, TargetError
from upres.engine.models.flashvsr.manifest import check, read
from upres.export.flashvsr.graphs.settings import Settings
from upres.export.flashvsr.graphs.write import write_graphs
from upres.export.flashvsr.weights.npz import read_npz
from upres.export.flashvsr.weights.weight_set import WeightSet

SMALL = Settings(profiles=((256, 256),))


@pytest.fixture(scope="module")
def weights() -> WeightSet:
    return read_npz(paths.DATA / "flashvsr" / "weights.npz", heads=4)


def test_the_same_weights_give_the_same_bytes(weights, tmp_path):
    first, second = (write_graphs(weights, tmp_path / name, SMALL) for name in ("a", "b"))
    assert first == second
    for name in [*first.graphs, first.weight_file]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_export_that_fails_says_why_and_leaves_what_was_there(weights, tmp_path):
    before = write_graphs(weights, tmp_path, Settings(((128, 128),), "fp16"))
    large = replace(weights, dit={**weights.dit, "blocks.1.ffn.0.weight": weights.dit["blocks.1.ffn.0.weight"] * 1e8})
    with pytest.raises(
        ModelError, match=r"cannot be exported in fp16: values up to .* do not fit in float16; fp32 has"
    ):
        write_graphs(large, tmp_path, Settings(((128, 128),), "fp16"))
    check(tmp_path, before)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=r"cannot write the graphs to .*file: "):
        write_graphs(weights, tmp_path / "file", SMALL)


def test_a_session_keeps_its_weights_while_they_are_exported_again(weights, tmp_path):
    settings = Settings(((128, 128),))
    manifest = write_graphs(weights, tmp_path, settings)
    with (tmp_path / manifest.weight_file).open("rb") as file:
        mapped = np.memmap(file, np.uint8, "r")
        before = bytes(mapped)
        write_graphs(replace(weights, tc={key: -value for key, value in weights.tc.items()}), tmp_path, settings)
        assert bytes(mapped) == before
    assert (tmp_path / manifest.weight_file).read_bytes() != before


def test_graphs_are_valid_and_free_of_what_runtimes_lack(weights, tmp_path):
    for exact in (True, False):
        manifest = write_graphs(weights, tmp_path, Settings(profiles=((256, 256),), exact=exact))
        for name in manifest.graphs:
            onnx.checker.check_model(tmp_path / name, full_check=True)
            nodes = onnx.load(tmp_path / name, load_external_data=False).graph.node
            ranks = [len(attribute.ints) for node in nodes for attribute in node.attribute if attribute.name == "perm"]
            assert max(ranks, default=0) <= 8  # TensorRT's limit
            assert "Loop" not in {node.op_type for node in nodes}


@pytest.mark.parametrize("topk_ratio", [None, 0.3])
def test_the_published_rule_runs_on_a_gpu_with_no_way_through_the_cpu(weights, tmp_path, topk_ratio):
    # docs/OperatorKernels.md of ONNX Runtime 1.24: the newest version of each operator in its CUDA provider.
    newest = {"Cast": 19, "Gelu": 20, "Identity": 19, "LayerNormalization": 17, "Pad": 18, "Resize": 18, "Reshape": 23}
    newest |= {"Conv": 11, "ReduceL2": 18, "ReduceMean": 18, "Split": 18, "TopK": 11, "Transpose": 23, "Where": 16}
    newest |= dict.fromkeys(("Add", "Div", "Mul", "Relu", "Sub"), 14)
    others = "Concat Gemm Greater MatMul Max Min ReduceSum Sigmoid Slice Softmax SpaceToDepth Sqrt Tanh"
    newest |= dict.fromkeys(others.split(), 13)
    manifest = write_graphs(weights, tmp_path, Settings(((256, 256),), "fp16", topk_ratio=topk_ratio))
    for name in manifest.graphs:
        model = onnx.load(tmp_path / name, load_external_data=False)
        opset = model.opset_import[0].version
        versions = {node.op_type: onnx.defs.get_schema(node.op_type, opset).since_version for node in model.graph.node}
        assert {kind: version for kind, version in versions.items() if version > newest.get(kind, 0)} == {}, name


def test_every_tile_that_cannot_be_is_named(weights, tmp_path):
    settings = Settings(profiles=((200, 256), (768, 768), (640, 768)), exact=False)
    with pytest.raises(SettingsError) as error:
        write_graphs(weights, tmp_path, settings)
    assert "the sides of a 256x200 tile are not multiples of 128" in str(error.value)
    assert "768x768 differs from training" in str(error.value)
    assert "768x640" not in str(error.value)


def test_first_next_and_profiles_share_their_weights(weights, tmp_path):
    one = write_graphs(weights, tmp_path / "one", SMALL).weight_bytes
    two = write_graphs(weights, tmp_path / "two", Settings(profiles=((256, 256), (128, 256)))).weight_bytes
    assert two - one < 200_000


def test_an_export_that_dies_while_it_is_replaced_is_not_taken_for_a_whole_one(weights, tmp_path, monkeypatch):
    """The old graphs must never be read with the new weights, which have the same size."""
    settings = Settings(((128, 128),))
    write_graphs(weights, tmp_path, settings)
    negated = replace(weights, tc={key: -value for key, value in weights.tc.items()})
    (tmp_path / "projector.onnx").unlink()
    (tmp_path / "projector.onnx").mkdir()  # the first graph after the weights cannot be written
    with pytest.raises(TargetError):
        write_graphs(negated, tmp_path, settings)
    with pytest.raises(ModelError, match="FlashVSR is not in"):
        read(tmp_path)
