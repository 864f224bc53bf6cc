"""The complete distillation on a small clip with the real teacher, and resuming it."""

import importlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from paths import SAMPLE
from typer.testing import CliRunner

from upres.engine.core.errors import ModelError
from upres.engine.models import manifest

pytest.importorskip("torch") if not os.environ.get("CI") else importlib.import_module("torch")

from upres.export.cli.checks import app  # noqa: E402
from upres.export.distill import patches, run, sources  # noqa: E402
from upres.export.distill.sources import Media  # noqa: E402
from upres.export.distill.training import Plan  # noqa: E402
from upres.export.families.srvgg import SRVGG  # noqa: E402

NAME = "realesr-live-x2"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Create a folder with a single clip, and configure patches, a student and a training of a few seconds."""
    media = tmp_path / "media"
    media.mkdir()
    shutil.copy(SAMPLE, media / "clip.mp4")
    monkeypatch.setattr(sources, "TRAINING", (Media("none", "clip.mp4"),))
    monkeypatch.setattr(sources, "HELD_OUT", (Media("none", "clip.mp4", width=48),))
    monkeypatch.setattr(patches, "SIDE", 64)
    monkeypatch.setattr(patches, "SHARD", 2)
    monkeypatch.setitem(run.STUDENTS, NAME, replace(run.STUDENTS[NAME], network=SRVGG(4, 1, 2, block=2)))
    return media


def test_a_student_is_made_measured_and_made_again_to_the_same_bytes(small, tmp_path):
    results = tmp_path / "results.json"
    options = ["--steps", "2", "--shards", "1", "--media", small, "--results", results]
    graphs = []
    for out in ("a", "b"):
        arguments = ["distill", NAME, tmp_path / "work", tmp_path / out, *options]
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        graphs.append((tmp_path / out / f"{NAME}.onnx").read_bytes())
    assert graphs[0] == graphs[1]
    facts = manifest.read(tmp_path / "a" / f"{NAME}.json")
    assert (facts.network, facts.scale, facts.halo) == (NAME, 2, 7)
    found = json.loads(results.read_text())["results"][NAME]
    assert found["plan"]["steps"] == 2
    assert set(found["held_out"]) == {"clip.mp4", "mean"}
    assert set(found["held_out"]["mean"]) == {"bicubic", "lanczos", NAME}
    assert "clip.mp4" in result.output


def test_every_student_ships_as_what_the_command_makes():
    for name, student in run.STUDENTS.items():
        path, facts = manifest.find(name)
        block = student.network.block
        # A convolution reaches one block further; the unshuffle reaches to the end of a block.
        halo = block * (student.network.convs + 2) + block - 1
        assert (facts.scale, facts.multiple, facts.halo) == (student.network.scale, block, halo)
        weights = sum(int(np.prod(shape)) for shape in student.network.shapes().values())
        assert 2 * weights < path.stat().st_size < 2 * weights + 20_000  # two bytes per weight


def test_an_unknown_student_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ModelError, match=r"'x' cannot be distilled; there are: realesr-live-x2, realesr-live-x4"):
        run.distill("x", tmp_path, tmp_path, Plan(1), shards=1)
