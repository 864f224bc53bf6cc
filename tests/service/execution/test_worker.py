"""A worker and the attempts that it runs, each in a real process."""

import io
import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import fake
import numpy as np
import processes
import pytest
from worker_desk import REQUEST, SPEC, working

from upres.engine.core.errors import LogError, ModelError, SourceError
from upres.engine.core.frame import Frame
from upres.engine.ranges.folder import Ranges
from upres.service.domain.errors import NoRoomError
from upres.service.domain.failures import failure_of
from upres.service.domain.spec import Limits
from upres.service.domain.states import Reason
from upres.service.execution.attempt.remote_model import RemoteModel
from upres.service.execution.attempt.run import _as_source_errors
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost
from upres.service.execution.order import Order
from upres.service.execution.report_shape import Pace
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.execution.worker import Worker, _enforce_time_limit, load


@pytest.fixture
def source(clip):
    return clip("a.mp4", 1)


def test_models_are_made_ready_for_the_sizes_that_were_asked_for(caplog):
    loaded = {}

    def load(slug, scale, content):
        return loaded.setdefault(slug, fake.Nearest()), None

    class Refusing(fake.Nearest):
        def open(self, width, height):
            raise ModelError("there is no engine")

    loaded["RealESRGAN_Vid_x4"] = Refusing()
    reports = io.StringIO()
    Worker(load, reports).warm(["RealESRGAN_Vid_x4@32x24", "RealESRGAN_Vid_x2@64x48"])
    [session] = loaded["RealESRGAN_Vid_x2"].opened
    assert session.count == 0 and session.flushed == [1] and session.closed
    assert json.loads(reports.getvalue().splitlines()[-1])["report"] == "ready"
    assert "cannot preload RealESRGAN_Vid_x4@32x24: there is no engine" in caplog.text


def test_a_worker_is_ready_once_attempts_start_at_once(monkeypatch):
    reports, before = io.StringIO(), []
    monkeypatch.setattr(ForkServer, "wait", lambda self, seconds: before.append(reports.getvalue()))
    Worker(fake.load, reports).warm()
    assert len(before) == 1 and '"ready"' not in before[0] and '"ready"' in reports.getvalue()


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


@pytest.mark.parametrize(("fresh", "raised"), [(True, SourceError), (False, LogError)])
def test_a_source_that_contradicts_itself_is_no_fault_of_the_log(fresh, raised):
    with pytest.raises(raised, match="counts 3"), _as_source_errors(fresh=fresh):
        raise LogError("track audio0 gave 2 packets, its log counts 3")


def test_an_attempt_ends_with_a_joined_file_and_what_it_took(tmp_path, source):
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        desk.order()
        verdict = desk.verdict()
        assert verdict["report"] == "joined" and verdict["totals"]["frames"] == 10
        assert verdict["totals"]["pixels"] == 10 * 64 * 48
        assert desk.folder.joined.stat().st_size


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


def test_an_attempt_that_merges_ranges_has_memory_of_its_own_while_it_does(tmp_path, clip):
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order(devices=2)
        *_, ranges = desk.reports()
        assert ranges["report"] == "ranges" and desk.merging._reserved.total() == 10 * 64 * 48 * 3 // 2
        assert not desk.memory._reserved.total()
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}
        assert not desk.merging._reserved.total()


def test_ranges_that_were_made_are_kept_where_one_device_is_left_and_not_where_it_is_to_be_made_as_one(tmp_path, clip):
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order(devices=2)
        *_, ranges = desk.reports()
        desk.order(request_id=f"{REQUEST}/0.1", range_number=1)
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}
        tail = Ranges(desk.folder.log, {}).tail(1)
        while not any("made" in note for note in tail.notes):
            tail.news()
            time.sleep(0.01)
        desk.order(devices=1)
        *_, left = desk.reports()
        assert left == {"report": "ranges", "numbers": [number for number in ranges["numbers"] if number != 1]}
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}
        desk.order()
        verdict = desk.verdict()
        assert verdict["report"] == "joined" and verdict["totals"]["frames"] == 30


def test_a_job_whose_ranges_could_never_be_merged_is_made_alone(tmp_path, clip):
    with working(tmp_path / "job") as desk:
        desk.merging._total = 1000
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order(devices=2)
        verdict = desk.verdict()
        assert verdict["report"] == "joined" and verdict["totals"]["frames"] == 30
        assert not desk.merging._reserved.total()


def test_a_job_in_ranges_has_its_memory_before_it_opens_its_log(tmp_path, clip):
    with working(tmp_path / "job") as desk:
        desk.merging.reserve(desk.merging._total, lambda: False, owner="bob")
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order(devices=2)
        while not desk.merging.counts[-1]:
            time.sleep(0.01)
        assert not desk.folder.log.exists()
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}


def test_memory_to_merge_is_waited_for_apart_and_given_back_for_the_memory_to_make():
    memory, merging = MemoryBudget(1 << 30), MemoryBudget(1000)
    merging.reserve(600, lambda: False, owner="bob")
    mine, theirs = (Channel(end) for end in socket.socketpair())
    with closing(mine), closing(theirs):
        host = ModelHost(theirs, fake.load, nullcontext, Claim(memory), Claim(merging, longest=0.01))
        host._do({"do": "model", "models": [("x", 2)], "content": "auto"}, None)
        with pytest.raises(NoRoomError):
            host._do({"do": "merge", "media": 500}, None)
        host._do({"do": "merge", "media": 400}, None)
        assert merging._reserved.total() == 1000 and host.waited > 0
        host._reserve({"width": 64, "height": 48, "media": 0})
        assert merging._reserved.total() == 600 and memory._reserved.total()
        host.close()
        assert not memory._reserved.total()


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


def test_an_attempt_that_is_cancelled_has_died(tmp_path):
    with working(tmp_path / "job") as desk:
        os.mkfifo(desk.folder.source)
        desk.order()
        desk.send({"cancel": REQUEST})
        assert desk.verdict() == {"report": "died"}


class Thorough(fake.Nearest):
    """Its sessions work on the eighth frame until a fragment was reported, like a model that works on a whole shot for long."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "reported", threading.Event())

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def thorough(frame):
            if session.count == 7:
                assert self.reported.wait(60)
            return push(frame)

        session.push = thorough
        return session


def test_what_an_attempt_has_made_is_reported_while_a_model_works_for_it(tmp_path, clip):
    model = Thorough()
    with working(tmp_path / "job", lambda *_: (model, None), stall_seconds=60) as desk:
        desk.folder.source.write_bytes(clip("b.mp4", 3).read_bytes())
        desk.order()
        reports = desk.reports()
        assert next(report for report in reports if report["report"] == "fragment")
        model.reported.set()
        assert list(reports)[-1]["report"] == "joined"


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
    mine, theirs = (Channel(end) for end in socket.socketpair())
    order = Order(REQUEST, "alice", "", SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    worker = Worker(fake.load, io.StringIO(), stall_seconds=1)
    with closing(mine), closing(theirs), ThreadPoolExecutor(1) as answers:
        host = ModelHost(theirs, fake.load, nullcontext, Claim(MemoryBudget(1 << 30)))

        def attempt():
            mine.receive()  # the order
            model = RemoteModel(mine, [("x", 4)], "auto")
            frame = Frame(np.zeros((120, 160, 3), np.uint8), 0, 1)
            model.open(160, 120).push(frame)  # 0.9 MB are returned

        thread = threading.Thread(target=attempt)
        thread.start()
        assert worker._watch(order, theirs, host, answers)["report"] == "late"
        thread.join(60)
    worker.run_orders([])


class Unclosable(fake.Nearest):
    """Its sessions cannot be closed."""

    def open(self, width, height):
        session = super().open(width, height)
        session.close = lambda: 1 / 0
        return session


def test_a_session_that_cannot_be_closed_costs_neither_the_verdict_nor_the_next_job(tmp_path, source):
    with working(tmp_path / "job", lambda *_: (Unclosable(), None)) as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        for _ in range(2):
            desk.order()
            assert desk.verdict()["report"] == "joined"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_attempt_is_confined_and_has_a_name(tmp_path, source):
    data = source.read_bytes()
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(data[: len(data) // 2])
        desk.order(spec={**SPEC.as_json(), "streamed": True})
        next(report for report in desk.reports() if report["report"] == "waiting")
        (attempt,) = processes.below("upres-attempt")
        with open(f"/proc/{attempt.pid}/status") as status:  # noqa: PTH123
            lines = status.read().splitlines()
        assert {"Seccomp:\t2", "NoNewPrivs:\t1"} <= set(lines)


@dataclass(frozen=True)
class Held(fake.Nearest):
    """Records that it got a frame, and keeps it until it may continue."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def held(frame):
            self.reached.set()
            self.released.wait(60)
            yield from push(frame)

        session.push = held
        return session


def open_here():
    """The open descriptors of this process, and the shared frames that it has mapped."""
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if "upres-frames" in line]
    return len(os.listdir("/proc/self/fd")), len(shared)  # noqa: PTH208


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_attempt_that_is_killed_leaves_no_shared_memory_and_nothing_open(tmp_path, source):
    model = Held()
    with working(tmp_path / "job", lambda *_: (model, None)) as desk:
        desk.folder.source.write_bytes(source.read_bytes())
        seen = []
        for _ in range(2):
            model.reached.clear()
            model.released.clear()
            desk.order()
            assert model.reached.wait(60)
            shared = open_here()[1]
            desk.send({"cancel": REQUEST})
            model.released.set()
            assert shared == 1 and desk.verdict() == {"report": "died"}
            seen.append(open_here())
        assert seen[0] == seen[1] and not seen[0][1]


def test_the_operators_quality_reaches_the_models(monkeypatch):
    monkeypatch.setenv("UPRES_RUNTIME", "openvino")
    monkeypatch.setenv("UPRES_QUALITY", "exact")
    model, _ = load("RealESRGAN_Vid_x2", 2, "auto")
    assert "OpenVINO" in model.report and model.report.endswith("fp32")
