"""The output of `upres --help`, and of every command's help."""

import re

import pytest
from typer.testing import CliRunner

from upres.service.cli.app import PANELS, build
from upres.service.cli.live import LiveModelOptions, _load_models

COMMANDS = [[name] for names in PANELS.values() for name in names]
INNER = [["keys", "add"], ["keys", "list"], ["keys", "revoke"], ["cache", "ls"], ["cache", "rm"]]


def shown(*args):
    result = CliRunner().invoke(build(), [*args, "--help"], env={"COLUMNS": "100", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def test_commands_are_grouped_by_what_they_are_for():
    text = shown()
    places = [text.index(f"\n{panel}:\n") for panel in PANELS]
    assert places == sorted(places) and "Others" not in text
    for start, end, names in zip(places, [*places[1:], len(text)], PANELS.values(), strict=True):
        assert all(f"\n  {name} " in text[start:end] for name in names)


@pytest.mark.parametrize("args", [[], *COMMANDS, *INNER], ids=" ".join)
def test_a_flag_has_no_type_and_every_argument_an_explanation(args):
    text = shown(*args)
    assert "bool" not in text
    assert "<str> [required]" not in " ".join(text.split())


def test_a_time_is_shown_with_its_hours():
    assert "seconds, or [h:]m:s" in shown("run")


def test_the_defaults_of_live_are_those_that_it_uses():
    text = " ".join(re.sub("[│─╭╮╰╯]", " ", shown("live")).split())
    assert "by default 2." in text and "or 2 from 540p up" not in text
    assert "by default live, the light one (realesr-live-x2)" in text
    light, _ = _load_models(LiveModelOptions(), step_down=False)
    animation, _ = _load_models(LiveModelOptions(content="animation"), step_down=False)
    assert [(model.scale, model.name) for model in (*light, *animation)] == [
        (2, "realesr-live-x2"),
        (2, "realesr-animevideov3-x2"),
    ]


def test_the_options_of_a_run_are_grouped():
    text = shown("run")
    places = [text.index(f"─ {panel} ─") for panel in ("Model", "Encoding", "Source", "Run")]
    assert places == sorted(places)
    assert places[0] < text.index("--quality") < places[1] < text.index("--crf") < places[2] < text.index("--still")
