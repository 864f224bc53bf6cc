"""Manifests of other versions, and the choice of a graph for a quality."""

import json
from dataclasses import replace

import pytest

from upres.engine.core.errors import ModelError
from upres.engine.models import manifest
from upres.engine.models.manifest import Variant

NETWORK = "realesr-animevideov3-x4"
FACTS = manifest.find(NETWORK)[1]
INT8 = Variant("int8", "int8.onnx", "0" * 64, 51.0)


def written(path, **changes):
    values = {**json.loads(manifest.find(NETWORK)[0].with_suffix(".json").read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return path


def test_what_an_older_or_a_newer_version_has_exported_is_read(tmp_path):
    assert manifest.read(written(tmp_path / "older.json", variants=None)).variants == ()
    variant = {"precision": "int8", "file": "int8.onnx", "sha256": "0" * 64, "psnr": 51.0, "calibrated_on": "clips"}
    newer = manifest.read(written(tmp_path / "newer.json", variants=[variant], colour_space="linear"))
    assert newer == replace(FACTS, variants=(INT8,))
    newer.write(tmp_path / "again.json")
    assert manifest.read(tmp_path / "again.json") == newer


def test_every_missing_field_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"missing: scale, halo"):
        manifest.read(written(tmp_path / "bad.json", scale=None, halo=None))


@pytest.mark.parametrize(
    ("quality", "precisions", "variants", "expected"),
    [
        ("exact", ("int8", "bf16", "fp32"), (INT8,), ("fp32", f"{NETWORK}.onnx")),
        ("high", ("int8", "bf16", "fp32"), (INT8,), ("bf16", f"{NETWORK}.onnx")),
        ("high", ("fp16", "fp32"), (replace(INT8, precision="fp16"),), ("fp16", "int8.onnx")),
        ("high", ("bf16", "fp32"), (INT8,), ("bf16", f"{NETWORK}.onnx")),
        ("high", ("fp32",), (), ("fp32", f"{NETWORK}.onnx")),
        ("fast", ("int8", "bf16", "fp32"), (replace(INT8, psnr=40.1),), ("int8", "int8.onnx")),
        ("fast", ("int8", "bf16", "fp32"), (replace(INT8, psnr=39.9),), ("bf16", f"{NETWORK}.onnx")),
        ("exact", ("int8", "fp32"), (replace(INT8, psnr=None),), ("fp32", f"{NETWORK}.onnx")),
    ],
)
def test_a_quality_gets_the_fastest_graph_that_is_good_enough(quality, precisions, variants, expected):
    chosen = replace(FACTS, variants=variants).variant(quality, precisions)
    assert (chosen.precision, chosen.file) == expected


def test_a_graph_that_is_not_the_manifests_is_not_run(tmp_path):
    (tmp_path / "int8.onnx").write_bytes(b"another")
    with pytest.raises(ModelError, match="damaged"):
        manifest.check(tmp_path / "int8.onnx", INT8)
    with pytest.raises(ModelError, match="cannot be read"):
        manifest.check(tmp_path / "none.onnx", INT8)
