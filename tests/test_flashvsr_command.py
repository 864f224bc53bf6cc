"""`upres export FlashVSR_Tiny`, and FlashVSR through the whole product: command line, chain, resume."""

import importlib
import json
import os
from fractions import Fraction

import av
import numpy as np
import pytest
from typer.testing import CliRunner
from upres.engine.flashvsr_manifest import folder_of, read

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from test_flashvsr_files import SMALL, as_torch  # noqa: E402 - after the check for torch
from upres.export.flashvsr_acceptance import ActivationScan  # noqa: E402
from upres.export.flashvsr_onnx import Settings, write_graphs  # noqa: E402
from upres.export.flashvsr_weights import random_weights  # noqa: E402
from upres.service.cli import build  # noqa: E402

NETWORK = "flashvsr-v1.1-tiny"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weight files under their original names, and a cache of its own."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    found, folder = random_weights(SMALL, prompt_tokens=20), tmp_path / "FlashVSR-v1.1"
    folder.mkdir()
    from safetensors.torch import save_file

    name = "diffusion_pytorch_model_streaming_dmd.safetensors"
    save_file(as_torch(found.dit), folder / name)
    monkeypatch.setattr("upres.export.flashvsr_files.DIT_BYTES", (folder / name).stat().st_size)
    torch.save(as_torch(found.lq), folder / "LQ_proj_in.ckpt")
    torch.save(as_torch(found.tc), folder / "TCDecoder.ckpt")
    torch.save(torch.from_numpy(found.prompt), folder / "posi_prompt.pth")
    return folder


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A small FlashVSR with random weights where the product looks for one."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    settings = Settings(profiles=((128, 128), (256, 256)))
    return write_graphs(random_weights(SMALL, prompt_tokens=20), folder_of(NETWORK), settings)


def upres(*words):
    return CliRunner().invoke(build(), [str(word) for word in words], catch_exceptions=False)


def film(path, count, width=64, height=48):
    """A clip of `count` frames, 25 a second, a pan over coarse noise with a cut in its middle."""
    texture = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "libx264", rate=25, width=width, height=height, pix_fmt="yuv420p", options={"crf": "4"}
        )
        for t in range(count):
            view = texture[2 * t // count if count > 40 else 0, t : t + height, t : t + width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def facts(path):
    with av.open(str(path)) as video:
        frames = [(frame.width, frame.height, frame.time) for frame in video.decode(video=0)]
    return {frame[:2] for frame in frames}, [frame[2] for frame in frames]


@pytest.mark.parametrize("count", [1, 24, 25, 26, 100])
def test_the_command_line_gives_as_many_frames_as_it_takes(model, tmp_path, count):
    source = film(tmp_path / "in.mp4", count)
    result = upres("run", source, tmp_path / "out.mp4", "--model", "FlashVSR_Tiny", "--scale", 2)
    assert result.exit_code == 0, result.output
    sizes, times = facts(tmp_path / "out.mp4")
    assert sizes == {(128, 96)}
    assert times == pytest.approx(facts(source)[1])


def test_a_chain_with_realesrgan(model, tmp_path):
    source = film(tmp_path / "in.mp4", 9, 32, 32)
    chain = "FlashVSR_Tiny,RealESRGAN_Vid_x2"
    assert upres("run", source, tmp_path / "out.mp4", "--chain", chain, "--scale", 2).exit_code == 0
    sizes, times = facts(tmp_path / "out.mp4")
    assert (sizes, len(times)) == ({(128, 128)}, 9)


def test_models_and_scales_are_told_apart(model, tmp_path):
    listed = upres("models")
    assert f"  {NETWORK:26} photo      here" in listed.output
    with pytest.raises(Exception, match="FlashVSR_Tiny enlarges 2 or 3 or 4 times, not 5 times"):
        upres("run", film(tmp_path / "in.mp4", 1), tmp_path / "out.mp4", "-m", "FlashVSR_Tiny", "--scale", 5)


def test_export_writes_where_upres_looks(weights, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr_onnx.PROFILES", ((128, 128),))
    result = upres("export", "FlashVSR_Tiny", "--weights", weights, "--precision", "fp16", "--attention", "dense")
    assert "not verified; --verify does it" in result.output
    manifest = read(folder_of(NETWORK, "fp16"))
    assert (manifest.precision, manifest.attention, manifest.weights) == ("fp16", "dense", "trained")


def test_options_that_are_missing_are_all_named(tmp_path):
    with pytest.raises(Exception, match=r"needs --weights DIR.*--acceptance DIR and --clip FILE go together"):
        upres("export", "FlashVSR_Tiny", "--clip", tmp_path / "clip.mp4")


def test_acceptance_reports_and_ends_the_experiment(weights, tmp_path):
    clip = film(tmp_path / "clip.mp4", 34, 96, 80)
    result = upres("export", "FlashVSR_Tiny", "--weights", weights, "--acceptance", tmp_path / "report", "--clip", clip)
    assert "passed: " in result.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["psnr"] > 60
    assert report["fp16_fits"]
    assert len(report["files"]) == 4
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".json", ".md", ".png"}
    assert not read(folder_of(NETWORK)).experimental


def test_the_scan_sees_what_would_overflow():
    with ActivationScan() as scan:
        torch.ones(3) * 70_000
    assert max(scan.largest.values()) == 70_000
