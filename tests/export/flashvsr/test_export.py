"""FlashVSR's weights and graphs: keys and counts, parity with the public implementation, determinism."""

import importlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import paths
import pytest
from typer.testing import CliRunner

from upres.engine.core.errors import ModelError, SettingsError, TargetError
from upres.engine.models.flashvsr.manifest import check as check_files

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.cli.checks import app  # noqa: E402 - after the check for torch
from upres.export.flashvsr.attention import outside_range  # noqa: E402
from upres.export.flashvsr.check import read_golden  # noqa: E402
from upres.export.flashvsr.export import Settings, write_graphs  # noqa: E402
from upres.export.flashvsr.weights import Configuration, WeightSet, check, read_npz  # noqa: E402

DATA = paths.DATA / "flashvsr"
SMALL = Settings(profiles=((256, 256),))


@pytest.fixture(scope="module")
def weights() -> WeightSet:
    return read_npz(DATA / "weights.npz", heads=4)


def flashvsr_check(golden: Path):
    arguments = ["--weights", DATA / "weights.npz", "--golden", golden, "--config", DATA / "configuration.json"]
    return CliRunner().invoke(app, ["flashvsr-check", *map(str, arguments)])


@pytest.mark.parametrize(
    ("part", "tensors", "parameters"), [("dit", 825, 1_418_996_800), ("lq", 8, 287_845_888), ("tc", 66, 45_338_371)]
)
def test_the_full_size_has_the_published_tensors(part, tensors, parameters):
    shapes = Configuration().shapes()[part]
    assert len(shapes) == tensors
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters


@pytest.mark.parametrize("regime", ["dense", "sparse"])
def test_pytorch_and_onnx_agree_with_the_public_implementation(regime):
    result = flashvsr_check(DATA / f"pipeline_{regime}.npz")
    assert result.exit_code == 0, result.output
    assert "onnx c2.clean" in result.output
    assert result.output.count("0 of 1152 blocks flipped") == 2


def test_attention_in_groups_of_blocks_is_the_same(monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.transformer.SCORE_BYTES", 1)
    result = flashvsr_check(DATA / "pipeline_sparse.npz")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("fact", "wrong"), [("topk_ratio", 0.35), ("local_range", 2)])
def test_the_check_notices_another_rule_of_attention(tmp_path, fact, wrong):
    with np.load(DATA / "pipeline_sparse.npz") as file:
        values = dict(file)
    np.savez(tmp_path / "wrong.npz", **values | {fact: np.array(wrong)})
    result = flashvsr_check(tmp_path / "wrong.npz")
    assert result.exit_code == 1, result.output
    assert "FAIL onnx c2.clean" in result.output


def test_the_local_range_is_cut_off_at_the_borders_and_equal_in_every_window():
    # 4 rows of blocks, one column; a query sees from R//2 above itself, R blocks in all.
    outside = outside_range((2, 32, 8), 8, 3)
    assert (~outside[:, :4]).astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert (outside[:, :4] == outside[:, 4:]).all()


def test_a_file_that_is_no_reference_is_named(tmp_path):
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"no\.npz is not a FlashVSR reference"):
        read_golden(tmp_path / "no.npz")


def test_every_problem_with_the_weights_is_named(weights):
    dit = dict(weights.dit)
    dit.pop("head.head.bias")
    dit["blocks.1.norm3.bias"] = np.zeros(3, np.float32)
    dit["left.over"] = np.zeros(1, np.float32)
    broken = WeightSet(weights.configuration, dit, weights.lq, weights.tc, weights.prompt[:, :, :5])
    with pytest.raises(ModelError) as error:
        check(broken)
    for text in (
        "4 problems",
        "head.head.bias is missing",
        "(3,), expected (128,)",
        "left.over is unknown",
        "prompt: is",
    ):
        assert text in str(error.value)


def test_the_same_weights_give_the_same_bytes(weights, tmp_path):
    first, second = (write_graphs(weights, tmp_path / name, SMALL) for name in ("a", "b"))
    assert first == second
    for name in [*first.graphs, first.weight_file]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_export_that_fails_says_why_and_leaves_what_was_there(weights, tmp_path):
    before = write_graphs(weights, tmp_path, Settings(((128, 128),), "fp16"))
    large = replace(weights, dit={**weights.dit, "blocks.1.ffn.0.weight": weights.dit["blocks.1.ffn.0.weight"] * 1e8})
    with pytest.raises(ModelError, match=r"cannot be exported in fp16: values up to .* do not fit in float16; fp32"):
        write_graphs(large, tmp_path, Settings(((128, 128),), "fp16"))
    check_files(tmp_path, before)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=r"cannot write the graphs into .*file: "):
        write_graphs(weights, tmp_path / "file", SMALL)


def test_a_session_keeps_its_weights_while_they_are_exported_anew(weights, tmp_path):
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
    # docs/OperatorKernels.md of ONNX Runtime 1.24: the newest version of each operator that its CUDA provider has.
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
    assert "256x200 is not made of blocks" in str(error.value)
    assert "768x768 is not what was trained" in str(error.value)
    assert "768x640" not in str(error.value)


def test_first_next_and_profiles_share_their_weights(weights, tmp_path):
    one = write_graphs(weights, tmp_path / "one", SMALL).weight_bytes
    two = write_graphs(weights, tmp_path / "two", Settings(profiles=((256, 256), (128, 256)))).weight_bytes
    assert two - one < 200_000
