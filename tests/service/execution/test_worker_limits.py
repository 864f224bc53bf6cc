"""Limits of a worker's attempts: their time, progress, memory and reports."""

import io
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict
from types import SimpleNamespace

import fake
import numpy as np
import pytest
from worker_desk import REQUEST, SPEC, working

from upres.engine.core.frame import Frame
from upres.service.domain.failures import failure_of
from upres.service.domain.spec import Limits
from upres.service.domain.states import Reason
from upres.service.execution.attempt.remote_model import RemoteModel
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost
from upres.service.execution.order import Order
from upres.service.execution.report_shape import Pace
from upres.service.execution.worker import Worker, _enforce_time_limit


@pytest.fixture
def source(clip):
    return clip("a.mp4", 1)


def test_an_attempt_leaves_the_disk_what_stays_free(tmp_path, source):
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        desk.order(free_bytes=1 << 62)
        assert desk.verdict() == {
            "report": "failed",
            "error": "NoRoomError",
            "message": "the server's disk is nearly full; submit the job again later",
        }
        assert failure_of("NoRoomError", "").reason is Reason.CAPACITY_UNAVAILABLE


def test_an_attempt_that_makes_no_progress_is_ended_long_before_its_hour(tmp_path):
    """Opening a pipe without a writer blocks indefinitely, and the attempt does not wait for its source."""
    with working(tmp_path / "job", stall_seconds=1.5) as desk:
        os.mkfifo(desk.folder.source)
        desk.order(wall_seconds=3600.0)
        assert desk.verdict() == {"report": "late", "stalled_seconds": pytest.approx(1.5)}


def test_an_attempt_that_waits_for_its_source_is_left_alone(tmp_path, source):
    data = source.read_bytes()
    with working(tmp_path / "job", stall_seconds=5) as desk:
        desk.folder.source.write_bytes(data[: len(data) // 2])
        desk.order(spec={**SPEC.as_json(), "streamed": True})
        reports = desk.reports()
        for _ in range(7):
            assert next(report for report in reports if report["report"] == "waiting")
        with desk.folder.source.open("ab") as file:
            file.write(data[len(data) // 2 :])
        desk.folder.end_source()
        assert list(reports)[-1]["report"] == "joined"


def test_an_attempt_that_is_not_done_in_its_time_is_late(tmp_path):
    with working(tmp_path / "job") as desk:
        os.mkfifo(desk.folder.source)
        desk.order(wall_seconds=1.0)
        assert desk.verdict() == {"report": "late"}


def test_an_attempt_that_gets_no_memory_in_time_says_so_and_may_be_submitted_again(tmp_path, source):
    with working(tmp_path / "job", memory_bytes=1 << 30) as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        desk.memory.reserve(1 << 30, lambda: False)
        desk.order(wall_seconds=5.0)
        verdict = desk.verdict()
    assert verdict["error"] == "NoRoomError" and "other jobs have held for 5 s" in verdict["message"]


def test_time_that_an_attempt_waits_for_memory_is_none_of_its_own(monkeypatch):
    now, waits = [0.0], []
    host = SimpleNamespace(interrupt=lambda: None)

    def wait(seconds=None):
        """It waits for memory from its 5th to its 105th second."""
        waits.append(seconds)
        now[0] += seconds or 0
        host.waited = min(max(now[0] - 5, 0), 100)
        return seconds is None

    killed = []
    child = SimpleNamespace(ended=SimpleNamespace(wait=wait), kill=lambda: killed.append(now[0]))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    late = threading.Event()
    _enforce_time_limit(SimpleNamespace(wall_seconds=10.0), child, host, late)
    assert killed == [110.0] and late.is_set()


def test_an_attempt_is_late_where_it_is_silent_and_no_model_works_for_it():
    works, waits = threading.Event(), []

    def wait_readable(seconds):
        """Its request is answered, and nothing else happens; the model ends its work during the third wait."""
        waits.append(works.is_set())
        if len(waits) == 3:
            works.set()
        return len(waits) == 1

    channel = SimpleNamespace(
        send=lambda message: None,
        limit=lambda seconds: None,
        wait_readable=wait_readable,
        receive=lambda most: ({"do": "push"}, None),
    )
    host = SimpleNamespace(pixels=0, frame_bytes=0, answer=lambda message, frame: works.wait(60))
    order = Order(REQUEST, "alice", "", SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    worker = Worker(fake.load, io.StringIO(), stall_seconds=7)
    with ThreadPoolExecutor(1) as answers:
        verdict = worker._watch(order, channel, host, answers)
    worker.run_orders([])
    assert verdict == {"report": "late", "stalled_seconds": 7}
    assert waits[:3] == [False] * 3 and all(waits[3:]) and len(waits) > 3


@pytest.mark.parametrize("message", [{"report": "fragment"}, {"report": "active"}, {"do": "memory"}])
def test_an_attempt_that_floods_its_worker_waits(monkeypatch, message):
    waits, messages = [], iter([message] * 5000)
    monkeypatch.setattr("upres.service.execution.worker.Pace", lambda: Pace(waits.append, lambda: 0.0))

    def receive(most):
        if (message := next(messages, None)) is None:
            raise EOFError
        return dict(message), None

    channel = SimpleNamespace(
        send=lambda message: None,
        limit=lambda seconds: None,
        wait_readable=lambda seconds: True,
        receive=receive,
        stuck=False,
    )
    order = Order(REQUEST, "alice", "", SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    worker = Worker(fake.load, io.StringIO())
    host = SimpleNamespace(pixels=0, frame_bytes=0, answer=lambda message, frame: None)
    with ThreadPoolExecutor(1) as answers, pytest.raises(EOFError):
        worker._watch(order, channel, host, answers)
    worker.run_orders([])
    assert len(waits) > 500


def test_an_attempt_that_says_too_late_that_its_folder_is_locked_has_died():
    messages = iter([{"do": "push"}, {"report": "locked", "holder": "x"}])
    channel = SimpleNamespace(
        send=lambda message: None,
        limit=lambda seconds: None,
        wait_readable=lambda seconds: True,
        receive=lambda most: (next(messages), None),
    )
    order = Order(REQUEST, "alice", "", SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    worker = Worker(fake.load, io.StringIO())
    with ThreadPoolExecutor(1) as answers, pytest.raises(ValueError, match="an invalid report"):
        host = SimpleNamespace(pixels=0, frame_bytes=0, answer=lambda message, frame: None)
        worker._watch(order, channel, host, answers)
    worker.run_orders([])


def test_an_attempt_that_takes_nothing_of_an_answer_is_late():
    attempt_end, host_end = (Channel(end) for end in socket.socketpair())
    order = Order(REQUEST, "alice", "", SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    worker = Worker(fake.load, io.StringIO(), stall_seconds=1)
    with closing(attempt_end), closing(host_end), ThreadPoolExecutor(1) as answers:
        host = ModelHost(host_end, fake.load, nullcontext, Claim(MemoryBudget(1 << 30)))

        def attempt():
            attempt_end.receive()  # the order
            model = RemoteModel(attempt_end, [("x", 4)], "auto")
            frame = Frame(np.zeros((120, 160, 3), np.uint8), 0, 1)
            model.open(160, 120).push(frame)  # 0.9 MB are returned

        thread = threading.Thread(target=attempt)
        thread.start()
        assert worker._watch(order, host_end, host, answers)["report"] == "late"
        thread.join(60)
    worker.run_orders([])
