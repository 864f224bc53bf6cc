"""A worker and the attempts that it runs, each in a real process."""

import io
import json
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import fake
import processes
import pytest
from worker_desk import REQUEST, SPEC, working

from upres.engine.core.errors import LogError, ModelError, SourceError
from upres.service.execution.attempt.run import _as_source_errors
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.execution.worker import Worker, load


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
class Blocking(fake.Nearest):
    """Records that it got a frame, and keeps it until it may continue."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def block(frame):
            self.reached.set()
            self.released.wait(60)
            yield from push(frame)

        session.push = block
        return session


def open_here():
    """The open descriptors of this process, and the shared frames that it has mapped."""
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if "upres-frames" in line]
    return len(os.listdir("/proc/self/fd")), len(shared)  # noqa: PTH208


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_attempt_that_is_killed_leaves_no_shared_memory_and_nothing_open(tmp_path, source):
    model = Blocking()
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
