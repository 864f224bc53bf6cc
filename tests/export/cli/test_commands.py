import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import typer
from safetensors.numpy import save_file
from small_networks import SMALL, tensors
from typer.testing import CliRunner

GENERAL = "realesr-general-x4v3"


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Build a command line from the entry points, like the main one."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    cli = typer.Typer()
    for entry in entry_points(group="upres.commands"):
        loaded = entry.load()
        if isinstance(loaded, typer.Typer):
            cli.add_typer(loaded, name=entry.name)
        else:
            cli.command(entry.name)(loaded)
    return cli


def invoke(app, *words):
    return CliRunner().invoke(app, words, catch_exceptions=True)


def test_export_pull_and_cache_work_together(app, tmp_path):
    save_file(tensors(SMALL), tmp_path / f"{GENERAL}.safetensors")
    exported = invoke(app, "export", str(tmp_path))
    assert exported.exit_code == 0
    assert f"{GENERAL}.onnx (against " in exported.output
    assert invoke(app, "pull", GENERAL).exit_code == 0
    assert GENERAL in invoke(app, "cache", "ls").output
    assert "0.0 MB deleted" in invoke(app, "cache", "rm", GENERAL).output
    assert "the cache is empty" in invoke(app, "cache", "ls").output
    assert "the cache is empty" in invoke(app, "cache", "list").output


def test_export_writes_where_it_is_told(app, tmp_path):
    save_file(tensors(SMALL), tmp_path / "mine.safetensors")
    result = invoke(
        app, "export", str(tmp_path / "mine.safetensors"), "--network", GENERAL, "--out", str(tmp_path / "out")
    )
    assert result.exit_code == 0
    assert (tmp_path / "out" / f"{GENERAL}.json").is_file()


@pytest.mark.parametrize("words", [["rm"], ["rm", "x", "--all"]])
def test_what_to_delete_must_be_said(app, words):
    result = invoke(app, "cache", *words)
    assert "either name the entries" in str(result.exception)


def test_deleting_all_of_an_empty_cache_is_no_error(app):
    assert invoke(app, "cache", "rm", "--all").exit_code == 0


def test_the_commands_load_without_the_exporters():
    heavy = "{'onnx', 'onnxruntime', 'openvino', 'torch', 'ncnn'}"
    code = f"import sys, upres.export.cli.commands, upres.service.cli.app; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
