"""The stages of a traced attempt: a single report regardless of the number of frames, which the server accepts."""

import pytest

from upres.engine.pipeline.progress import Progress
from upres.service.execution.attempt.stages import TimedProgress, reported
from upres.service.execution.report_shape import checked


class Sent(list):
    send = list.append


def test_stages_are_reported_once_and_as_the_server_takes_them():
    progress, channel = TimedProgress(), Sent()
    progress.seconds["of a later version"] = 0.0
    with pytest.raises(RuntimeError), reported(progress, channel):
        for stage in ("read", "infer", "encode", "of a later version") * 100:
            with progress.busy(stage):
                progress.frames_in += 1
        raise RuntimeError
    [report] = channel
    assert checked(report) == report
    assert [stage["name"] for stage in report["stages"]] == ["read", "infer", "encode"]
    for stage in report["stages"]:
        assert stage["began_ago"] >= stage["ended_ago"] >= 0
        assert 0 < stage["seconds"] <= stage["began_ago"] - stage["ended_ago"] + 1e-6


def test_what_worked_at_nothing_or_is_not_traced_reports_nothing():
    channel = Sent()
    for progress in (Progress(), TimedProgress()):
        with reported(progress, channel):
            pass
    assert channel == []
