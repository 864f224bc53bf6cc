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
from upres.service.cli.run.options import RunOptions

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
    def look(options=DEFAULTS, *, limit=0.0, terminal=True, piped=False, answer=True):
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", limit)
        for name in ("stdin", "stderr"):
            monkeypatch.setattr(sys, name, SimpleNamespace(isatty=lambda: terminal))
        report = FakeReport(answer)
        try:
            shape = work[0].reader.info.shape
            size = shape.width, shape.height
            patience.check_patience(work[1], work[0].job.models, size, report, options, piped=piped)
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
