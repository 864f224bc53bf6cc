"""`upres export FlashVSR_Tiny`."""

import importlib
import json
import os

import pytest
from film import film
from typer.testing import CliRunner

from upres.engine.core.errors import ModelError, SettingsError, SourceError
from upres.engine.models.flashvsr.manifest import folder_of, read

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import write_files  # noqa: E402 - after the check for torch

from upres.service.cli.app import build  # noqa: E402

NETWORK = "flashvsr-v1.1-tiny"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Write weight files, and set a separate cache."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    return write_files(tmp_path / "FlashVSR-v1.1", monkeypatch)


def upres(*words):
    return CliRunner().invoke(build(), [str(word) for word in words], catch_exceptions=False)


def test_export_writes_where_upres_looks(weights):
    result = upres("export", "FlashVSR_Tiny", "--weights", weights, "--precision", "fp16", "--attention", "dense")
    assert "not verified; use --verify" in result.output
    manifest = read(folder_of(NETWORK, "fp16"))
    assert (manifest.precision, manifest.attention, manifest.weights) == ("fp16", "dense", "trained")


def test_options_that_are_missing_are_all_named(tmp_path):
    with pytest.raises(
        SettingsError, match=r"needs --weights DIR.*--acceptance DIR and --clip FILE must be given together"
    ):
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


def test_what_does_not_pass_is_an_error_and_stays_experimental(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.verify.acceptance.NEEDED_PSNR", 1000.0)
    words = ["--acceptance", tmp_path / "report", "--clip", film(tmp_path / "clip.mp4", 34, 96, 80)]
    with pytest.raises(ModelError, match=r"NOT passed: .* dB against PyTorch; see .*report\.md"):
        upres("export", "FlashVSR_Tiny", "--weights", weights, *words)
    assert "NOT PASSED" in (tmp_path / "report" / "report.md").read_text()
    assert read(folder_of(NETWORK)).experimental


def test_a_clip_that_is_too_short_is_refused_before_the_export(weights, tmp_path):
    words = ["--acceptance", tmp_path / "report", "--clip", film(tmp_path / "clip.mp4", 5, 96, 80)]
    with pytest.raises(SourceError, match="must have at least 33 frames of 64x64"):
        upres("export", "FlashVSR_Tiny", "--weights", weights, *words)
    assert not folder_of(NETWORK).exists()


@pytest.mark.parametrize("words", [["--precision", "fp16"], ["--attention", "dense"], ["--verify"]])
def test_acceptance_judges_one_kind_of_export_only(tmp_path, words):
    with pytest.raises(SettingsError, match="--acceptance checks fp32 with exact attention"):
        upres("export", "FlashVSR_Tiny", "--weights", tmp_path, "--acceptance", "r", "--clip", "c.mp4", *words)
