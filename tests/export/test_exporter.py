import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file
from small_networks import RRDB, SMALL, SRVGG, tensors, write_srvgg

from upres.engine.core.errors import ModelError, TargetError
from upres.engine.models import manifest
from upres.export.exporter import export, resolve

GENERAL = "realesr-general-x4v3"
SHIPPED = ("realesr-animevideov3-x4", "realesr-animevideov3-x2")


def test_a_graph_and_its_manifest_are_written(tmp_path):
    source = write_srvgg(tmp_path, SMALL, tensors(SMALL, dtype=np.float16))
    exported = export(source, GENERAL, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{GENERAL}.json", f"{GENERAL}.onnx"]
    facts = manifest.read(exported.graph.with_suffix(".json"))
    assert facts == exported.manifest
    assert facts.graph_sha256 == hashlib.sha256(exported.graph.read_bytes()).hexdigest()
    assert facts.weights_sha256 == hashlib.sha256(source.with_suffix(".bin").read_bytes()).hexdigest()
    assert (facts.scale, facts.pad, facts.halo, facts.exact_halo, facts.multiple) == (4, 0, 4, True, 1)
    assert facts.opset == onnx.load(exported.graph).opset_import[0].version


def test_a_residual_network_is_tiled_with_an_overlap(tmp_path):
    net = RRDB(8, 4, 1, 2)
    save_file(tensors(net), tmp_path / "realesrgan-x2plus.safetensors")
    facts = export(tmp_path / "realesrgan-x2plus.safetensors", "realesrgan-x2plus", tmp_path).manifest
    assert (facts.scale, facts.pad, facts.halo, facts.exact_halo, facts.multiple) == (2, 0, 32, False, 2)
    assert facts.max_difference <= 1


@pytest.mark.parametrize(
    ("net", "network", "message"),
    [
        (SMALL, "realesrgan-x4plus", "is of the family rrdb; choose another --network"),
        (SRVGG(4, 1, 3), GENERAL, "upscales 4 times, but these weights are SRVGG"),
        (SMALL, "flashvsr-v1.1-tiny", "is of the family flashvsr; choose another --network"),
        (SMALL, "RealESRGAN_Vid_x4", "but not the name of a model"),
        (SMALL, "../mine", "is not a valid network name"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_left(tmp_path, net, network, message):
    source = write_srvgg(tmp_path, net, tensors(net))
    with pytest.raises(ModelError, match=message):
        export(source, network, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    source = write_srvgg(tmp_path, SMALL, tensors(SMALL))
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"cannot be written: .*; name another folder with --out"):
        export(source, GENERAL, tmp_path / "file" / "out")


def test_weights_of_ones_own_are_exported_under_any_name(tmp_path):
    """The scale of a network that is not in the catalogue is determined by its weights."""
    net = SRVGG(4, 1, 3)
    save_file(tensors(net), tmp_path / "x.safetensors")
    exported = export(tmp_path / "x.safetensors", "my.network-3", tmp_path / "out")
    assert exported.graph == tmp_path / "out" / "my.network-3.onnx"
    written = exported.manifest
    assert (written.network, written.slug, written.scale, written.licence) == ("my.network-3",) * 2 + (3, "not stated")


def test_the_name_of_a_file_says_which_network_it_is(tmp_path):
    for name in ("RealESRGAN_x4plus.pth", "realesrgan-x4plus-anime.param", "mine.pth"):
        (tmp_path / name).touch()
    assert resolve(tmp_path / "RealESRGAN_x4plus.pth", None) == (
        tmp_path / "RealESRGAN_x4plus.pth",
        "realesrgan-x4plus",
    )
    assert resolve(tmp_path / "mine.pth", GENERAL) == (tmp_path / "mine.pth", GENERAL)
    assert resolve(tmp_path, "realesrgan-x4plus-anime")[0] == tmp_path / "realesrgan-x4plus-anime.param"


@pytest.mark.parametrize("network", [None, GENERAL])
def test_a_folder_that_leaves_it_open_is_refused(tmp_path, network):
    for name in ("RealESRGAN_x4plus.pth", "realesrgan-x4plus-anime.param"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"cannot tell from .* which network it is"):
        resolve(tmp_path, network)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x4plus", "is a network, not its weights: `upres pull realesrgan-x4plus` gets it"),
        ("nowhere.pth", "nowhere.pth: no such file or folder"),
    ],
)
def test_what_is_no_file_is_said_with_how_to_get_it(name, words):
    with pytest.raises(ModelError, match=words):
        resolve(Path(name), None)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_fits_its_manifest(name):
    graph, facts = manifest.find(name)
    assert graph.stat().st_size <= 2_000_000
    assert hashlib.sha256(graph.read_bytes()).hexdigest() == facts.graph_sha256
    assert facts.max_difference <= 1
    assert facts.psnr >= 85
    assert facts.reference.startswith("ncnn ")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_comes_out_again_byte_for_byte(name, ncnn_models, tmp_path):
    """The export is verified against ncnn, or it would not be written."""
    exported = export(ncnn_models / f"{name}.param", name, tmp_path)
    shipped, _ = manifest.find(name)
    assert exported.graph.read_bytes() == shipped.read_bytes()
    again, before = (json.loads(path.with_suffix(".json").read_text()) for path in (exported.graph, shipped))
    measured = {
        "reference",
        "max_difference",
        "psnr",
        "variants",
    }  # these depend on the reference software, or are added later
    assert {key: again[key] for key in again.keys() - measured} == {
        key: before[key] for key in before.keys() - measured
    }


@pytest.mark.soak
def test_a_real_residual_network_agrees_with_ncnn(residual_network):
    facts = residual_network.manifest
    assert facts.reference.startswith("ncnn ")
    assert facts.max_difference <= 1
    assert facts.psnr >= 85
