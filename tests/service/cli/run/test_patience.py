"""Long runs: the warning with faster alternatives, and the question at a terminal."""

import sys
from types import SimpleNamespace

import pytest
from paths import SAMPLE

from upres.engine.api import prepared
from upres.engine.core.errors import Interrupted
from upres.engine.models import registry
from upres.engine.pipeline.estimate import predict
from upres.engine.pipeline.options import Job
from upres.service.cli.run import patience
from upres.service.cli.run.choice import Choice
from upres.service.cli.run.options import ModelOptions, RunOptions

DEFAULTS = RunOptions()


class FakeReport:
    """A report that records notes and questions, and answers them."""

    def __init__(self, answer):
        self.answer, self.notes, self.questions = answer, [], []

    def warn(self, text, **_):
        self.notes.append(text)

    def confirm(self, question):
        self.questions.append(question)
        return self.answer


@pytest.fixture(scope="module")
def work():
    with prepared(str(SAMPLE), sys.stdout, Job((registry.load("RealESRGAN_Vid_x4")[0],))) as work:
        yield work, predict(work.reader, work.job)


@pytest.fixture
def looked(work, monkeypatch):
    def look(options=DEFAULTS, *, chosen=None, limit=0.0, terminal=True, piped=False, answer=True):
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", limit)
        for name in ("stdin", "stderr"):
            monkeypatch.setattr(sys, name, SimpleNamespace(isatty=lambda: terminal))
        report = FakeReport(answer)
        try:
            shape = work[0].reader.info.shape
            size = shape.width, shape.height
            choice = Choice(chosen or ModelOptions())
            patience.check_patience(work[1], work[0].job.models, size, report, options, choice, piped=piped)
        except Interrupted as error:
            report.notes.append(str(error))
        return report

    return look


def test_what_is_short_is_not_mentioned(looked):
    report = looked(limit=1e9)
    assert not report.notes and not report.questions


def test_what_is_long_is_said_with_what_is_faster_and_asked_for_at_a_terminal(looked):
    report = looked()
    assert len(report.notes) == 1 and "--duration 3 upscales only three seconds" in report.notes[0]
    [question] = report.questions
    assert question.startswith("it takes about ") and question.endswith("; start it?")
    assert looked(answer=False).notes[-1] == "not started; use -y to start without being asked"


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (RunOptions(yes=True), {}),
        (RunOptions(dry_run=True), {}),
        (RunOptions(json=True), {}),
        (RunOptions(), {"terminal": False}),
        (RunOptions(), {"piped": True}),
    ],
)
def test_nobody_is_asked_who_cannot_answer_or_has_done_so(looked, options, how):
    report = looked(options, **how)
    assert len(report.notes) == 1 and not report.questions


def seconds_of(present, **others):
    """Return a stand-in for the measurement of a frame: seconds by the ending of a model's name or report."""
    return lambda model, *_: next((s for end, s in others.items() if end in f"{model.name} {model.report}"), present)


@pytest.fixture
def speeds(work, monkeypatch):
    def set_speeds(**others):
        present = work[1].seconds / work[1].frames
        found = {end: share * present for end, share in others.items()}
        monkeypatch.setattr(patience, "seconds_a_frame", seconds_of(present, **found))

    return set_speeds


def test_only_what_is_faster_here_is_listed(looked, speeds):
    speeds(live=0.2, x2=0.5, int8=0.4)
    [note] = looked().notes
    assert "--scale 2 takes about" in note and "--quality fast takes about" in note
    assert "--content live (an approximation) takes about" in note
    assert "--quality high" not in note and "--content auto" not in note and "--scale 4" not in note
    speeds()
    [note] = looked().notes
    assert "takes about" not in note


def test_options_of_the_present_run_are_kept(looked, speeds):
    speeds(live=0.2, x2=0.5)
    [note] = looked(chosen=ModelOptions(model="x4", runtime="onnxruntime")).notes
    assert "--scale 4 --content live instead of --model (an approximation) takes about" in note
    assert "--scale 2 instead of --model takes about" in note and "upres tune" not in note


def test_a_run_on_the_tuned_runtime_is_not_sent_to_high_or_to_tune(work, looked, monkeypatch, speeds):
    model = work[0].job.models[0]
    monkeypatch.setattr(model, "report", "ncnn CPU fp32")
    monkeypatch.setattr(model, "why", "tuned: ncnn")
    monkeypatch.setattr(Choice, "alternative", lambda *_, **__: model)
    speeds()
    [note] = looked().notes
    assert "bfloat16" not in note and "--quality" not in note and "upres tune" not in note
