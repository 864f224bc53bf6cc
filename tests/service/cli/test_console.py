"""Formatting of numbers, names and progress for people."""

import re
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console as RichConsole

from upres.engine.pipeline.progress import Progress
from upres.service.cli import console
from upres.service.cli.console import RemoteBar, Report, _costs, shortened
from upres.service.cli.live import LiveLine, _counts


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.009, "about 110 frames"), (1.75, "about 0.57 frames"), (0.001, "about 1000 frames")]
)
def test_a_speed_has_two_figures_and_no_exponent(seconds, expected):
    prediction = SimpleNamespace(frames=None, seconds=None, disk=None, memory=1, frame_seconds=seconds, frame_disk=1)
    assert expected in " ".join(_costs(prediction))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.04, "0.1 s"), (0.62, "0.6 s"), (89, "89.0 s"), (300, "5 min"), (7200, "2.0 h")]
)
def test_a_duration_is_rounded_to_what_people_read(seconds, expected):
    assert console.duration_text(seconds) == expected


def test_of_several_inputs_only_the_first_is_asked_about(monkeypatch):
    questions = []
    monkeypatch.setattr(console.typer, "confirm", lambda question, err: questions.append(question))
    report = Report(json=False)
    for number in (1, 2, 3):
        report.begin_input(number, 3)
        assert report.confirm(f"start {number}?") is (None if number == 1 else True)
    assert questions == ["start 1?"]


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("in.mp4", 6, "in.mp4"),
        ("2 of 3: clips/holiday.mp4", 20, "2 of 3: c…oliday.mp4"),
        ("映画のとても長い名前.mp4", 13, "映画のと….mp4"),
        ("abc", 2, "…c"),
    ],
)
def test_a_long_name_leaves_room_for_the_progress(text, room, shown):
    assert shortened(text, room) == shown


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_long_name_hides_nothing_of_the_progress(monkeypatch, width):
    out = StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: RichConsole(file=out, force_terminal=True, width=width))
    report, progress = Report(json=False), Progress()
    report._total, report._speed = 54321, lambda progress: 12.34
    with report.running("a film of a very long name, as people give them after a holiday, final.mp4", progress) as tick:
        progress.frames_out = 12345
        tick()
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue()).splitlines()
    assert any(re.search(r"12345/54321 .*12\.3 fps .*-:--:--$", line.rstrip()) for line in lines), lines
    assert max(map(len, lines)) <= width


def test_one_frame_is_one():
    assert [_counts(Progress(frames_out=count)) for count in (1, 2)] == ["1 frame", "2 frames"]


class Bar:
    """A progress bar that records its text."""

    def show(self, text, percent):
        self.text = text


def test_a_live_run_says_how_fast_it_is_of_how_fast_its_source_is_and_how_late(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("upres.service.cli.live.time", SimpleNamespace(monotonic=lambda: now[0]))
    bar = Bar()
    line = LiveLine(bar)
    for second in range(1, 11):
        now[0] = second
        line.show(25 * second + 100 * (second > 8), 10 * second, 15 * second, 0.143)
    assert bar.text == "100 frames, 10.0 of 50.0 fps, 143 ms late, 150 dropped"  # speeds of the last four seconds
    line.show(350, 1, 0, None, ", 2 interruptions")
    assert bar.text.startswith("1 frame, ") and bar.text.endswith(" fps, 2 interruptions")
    now[0] = 70
    line.show(350, 1, 0, None)
    assert bar.text == "1 frame, 0.0 of 0.0 fps, nothing received for 60 s"


def test_where_no_terminal_is_a_live_run_is_a_line_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("upres.service.cli.console.time", SimpleNamespace(monotonic=lambda: now[0]))
    with RemoteBar("waiting", endless=True) as endless, RemoteBar("sending") as other:
        for second in range(26):
            now[0] = second
            endless.show(f"{second} frames", 0)
            other.show(f"{second} %", second)
    assert capsys.readouterr().err.splitlines() == ["10 frames", "20 frames"]
