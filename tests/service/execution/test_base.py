"""The reports that an executor passes on, and the end of a job whose executor sends invalid ones."""

import asyncio

import pytest
from running_jobs import ended, serving, submit, until

from upres.service.domain.states import Failure, Reason
from upres.service.execution.report_shape import (
    BURST_BYTES,
    BYTES_A_SECOND,
    LEAST_BYTES,
    MAX_CHARACTERS,
    MAX_WARNINGS,
    Pace,
    checked,
)

TOTALS = {"frames": 1, "duration_seconds": 0.1, "seconds": {}}


@pytest.mark.parametrize(
    "report",
    [
        {"report": "fragment"},
        {"report": "waiting"},
        {"report": "progress", "percent": 1.5, "state": {"frames_in": 3}},
        {"report": "joined", "totals": TOTALS},
        {"report": "failed", "error": "SourceError", "message": "not a video"},
        {"report": "locked", "holder": "process 7"},
    ],
)
def test_what_attempts_say_is_passed_on(report):
    assert checked(report) == report


@pytest.mark.parametrize(
    "report",
    [
        {"report": "ready", "unavailable": {}},
        {"report": "died"},
        {"report": ["x"]},
        {"report": "progress"},
        {"report": "progress", "percent": "1", "state": {}},
        {"report": "joined"},
        {"report": "joined", "totals": {**TOTALS, "frames": "1"}},
        {"report": "joined", "totals": {**TOTALS, "frames": -1}},
        {"report": "joined", "totals": {**TOTALS, "pixels": "z"}},
        {"report": "joined", "totals": {**TOTALS, "pixels": 1 << 200}},
        {"report": "joined", "totals": {**TOTALS, "duration_seconds": float("nan")}},
        {"report": "joined", "totals": {**TOTALS, "seconds": {"read": float("inf")}}},
        {"report": "joined", "totals": {**TOTALS, "seconds": {str(n): 0.1 for n in range(100)}}},
        {"report": "progress", "percent": float("nan"), "state": {}},
        {"report": "progress", "percent": 101, "state": {}},
        {"report": "progress", "percent": 1, "state": {"warnings": [{}]}},
        {"report": "failed", "error": 1, "message": "x"},
        {"report": "locked", "holder": "x" * 9999},
    ],
)
def test_what_is_no_report_is_not(report):
    assert checked(report) is None


def test_what_nobody_asked_for_is_left_out():
    report = checked({"report": "progress", "percent": 1, "state": {"warnings": ["x"] * 9999, "more": ["x"]}})
    assert set(report["state"]) == {"warnings"} and len(report["state"]["warnings"]) == MAX_WARNINGS


def test_a_message_is_cut():
    report = checked({"report": "failed", "error": "SourceError", "message": "x" * 100_000})
    assert len(report["message"]) == MAX_CHARACTERS


def test_who_holds_a_lock_is_one_line_that_does_nothing_to_a_terminal_whatever_the_attempt_says():
    text = "process 7\x1b[2J\u202e\r\n2026-01-01 ERROR\tall is\u2028lost\0"
    assert checked({"report": "locked", "holder": text})["holder"] == "process 7 [2J 2026-01-01 ERROR all is lost"


@pytest.mark.parametrize("size", [1, LEAST_BYTES, 100_000])
def test_an_attempt_that_reports_without_end_is_slowed_to_a_bounded_number_of_bytes_a_second(size):
    now, counted = [0.0], max(size, LEAST_BYTES)

    def wait(seconds):
        now[0] += seconds

    pace, reports = Pace(wait, lambda: now[0]), 0
    while now[0] < 10:
        pace.keep(size)
        reports += 1
    assert reports * counted <= BURST_BYTES + (now[0] + 1) * BYTES_A_SECOND
    now[0] += 3600
    before = now[0]
    for _ in range(BURST_BYTES // counted):
        pace.keep(size)
    assert now[0] == before


class Talking:
    """An executor whose attempts end at once, each with the same report."""

    ready, unavailable, room, live_room, shortages = True, {}, 1, 0, ()

    def __init__(self, report):
        self.report = report

    async def start(self, on_report):
        self.on_report = on_report

    async def run(self, order):
        asyncio.get_running_loop().create_task(self.on_report(order.request_id, dict(self.report)))

    async def cancel(self, request_id):
        pass

    async def stop(self):
        pass


@pytest.mark.parametrize(
    "report",
    [{"report": "joined", "totals": {}}, {"report": "failed", "error": [], "message": "x"}, {"report": "sings"}],
)
def test_a_job_whose_executor_says_nonsense_ends(tmp_path, clip, report):
    async def scenario():
        async with serving(tmp_path, executor=Talking(report)) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            job = await until(jobs, job.request_id, ended)
            assert job.state.failure.reason is Reason.PROCESSING_FAILED

    asyncio.run(scenario())


def test_what_an_encoder_refuses_reaches_its_user_and_is_final(tmp_path, clip):
    words = "libx265 cannot encode 12x128 as yuv420p: Invalid argument"

    async def scenario():
        report = {"report": "failed", "error": "EncoderError", "message": words}
        async with serving(tmp_path, executor=Talking(report)) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            job = await until(jobs, job.request_id, ended)
            assert (job.state.attempts, job.state.failure) == (1, Failure(Reason.UNSUPPORTED, words))
            assert not job.state.failure.reason.retryable

    asyncio.run(scenario())


def test_an_attempt_is_over_whatever_its_verdict_meets(tmp_path, clip, monkeypatch):
    async def refused(self, request_id, report):
        raise RuntimeError("nothing works")

    async def scenario():
        async with serving(tmp_path, executor=Talking({"report": "died"})) as jobs:
            monkeypatch.setattr("upres.service.jobs.attempts.reports.Reports._apply", refused)
            job = await submit(jobs, clip("a.mp4", 1))
            await jobs.cancel(job.request_id, "alice")
            async with asyncio.timeout(20):
                while jobs.scheduler.attempts or jobs.scheduler.reports.pending:
                    await asyncio.sleep(0)

    asyncio.run(scenario())


def test_readiness_is_news_of_no_job(tmp_path, caplog):
    async def scenario():
        executor = Talking({})
        async with serving(tmp_path, executor=executor):
            await executor.on_report("", {"report": "ready", "unavailable": {}})
            await asyncio.sleep(0)
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    asyncio.run(scenario())
