"""A job's folder that another attempt holds: wait for a while, report the holder, and do not count it as an attempt."""

import json
import os
import socket
from dataclasses import asdict

import pytest
from fake import job
from filelock import FileLock
from worker_desk import REQUEST, SPEC, working

from upres.engine.core.errors import LogLockedError
from upres.engine.pipeline.progress import Progress
from upres.engine.segments.folder import VERSION, FolderLog
from upres.service.domain.spec import Limits
from upres.service.execution.attempt.folder_lock import UNKNOWN_HOLDER, LockedError, locked
from upres.service.execution.attempt.reporting import Reporter
from upres.service.execution.attempt.run import Attempt
from upres.service.execution.order import Order


def test_one_that_holds_a_lock_is_named_to_the_next(tmp_path):
    lock = tmp_path / "attempt.lock"
    own = f"process {os.getpid()} on {socket.gethostname()}"
    log = tmp_path / "log"
    with locked(lock, log, 0), pytest.raises(LockedError, match=own), locked(lock, log, 0.01):
        pass
    with locked(lock, log, 0):
        pass
    assert not log.exists()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"x\n" * 1000])
def test_whatever_a_holder_says_of_itself_is_one_short_line(tmp_path, content):
    if content is not None:
        (tmp_path / "attempt.holder").write_bytes(content)
    with (
        FileLock(tmp_path / "attempt.lock"),
        pytest.raises(LockedError) as caught,
        locked(tmp_path / "attempt.lock", tmp_path / "log", 0),
    ):
        pass
    assert len(caught.value.holder.splitlines()) == 1 and len(caught.value.holder) <= 200
    assert caught.value.holder == UNKNOWN_HOLDER or content == b"x\n" * 1000


@pytest.mark.parametrize("number", [None, 3])
def test_an_attempt_that_finds_its_folder_locked_gives_its_order_back_and_says_who_has_it(tmp_path, clip, number):
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(clip("a.mp4", 1).read_bytes())
        path = desk.folder.lock if number is None else desk.folder.range_lock(number)
        with FileLock(path):
            path.with_suffix(".holder").write_text("process 7 on a machine that is off")
            desk.order(lock_seconds=0.1, range_number=number)
            assert desk.verdict() == {"report": "locked", "holder": "process 7 on a machine that is off"}
        if number is None:
            desk.order(lock_seconds=0.1)
            assert desk.verdict()["report"] == "joined"


@pytest.mark.parametrize("number", [None, 0])
def test_a_log_that_an_attempt_has_locked_still_is_given_back_and_nothing_of_it_is_lost(tmp_path, clip, number):
    """As if the file server of a machine that is off had released the folder's lock first."""
    with working(tmp_path / "job") as desk:
        desk.folder.source.write_bytes(clip("a.mp4", 3).read_bytes())
        desk.order(devices=0 if number is None else 2)
        awaited = "fragment" if number is None else "ranges"
        next(report for report in desk.reports() if report["report"] == awaited)
        desk.send({"cancel": REQUEST})
        assert desk.verdict()["report"] in ("died", "joined")  # the second if it was done before
        log = desk.folder.log if number is None else desk.folder.log / "ranges" / f"{number:05}"
        log.mkdir(exist_ok=True)
        index = desk.folder.log / "index.jsonl"
        before = index.read_bytes()
        with FileLock(log / "lock"):
            desk.order(lock_seconds=0.1, range_number=number)
            assert desk.verdict()["report"] == "locked" and index.read_bytes() == before
        desk.order(lock_seconds=0.1, range_number=number)
        verdict = desk.verdict()
        if number is None:
            assert verdict["report"] == "joined" and verdict["totals"]["frames_resumed"] > 0
        else:
            assert verdict["report"] == "made"


def test_a_log_that_is_locked_after_all_is_not_started_over(tmp_path):
    order = Order(REQUEST, "alice", str(tmp_path), SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    attempt, job_ = Attempt(order, None, None, Reporter(None, Progress())), job(tmp_path / "out.mp4")
    log = attempt._log(job_)
    with pytest.raises(LogLockedError):
        attempt._log(job_)
    log.close()
    assert FolderLog.read_header(tmp_path / "log")


def test_a_log_that_another_build_began_is_started_over(tmp_path, caplog):
    """Segments of two builds must not be mixed in one result."""
    order = Order(REQUEST, "alice", str(tmp_path), SPEC.as_json(), asdict(Limits()), 0, None, 0, None)
    attempt, job_ = Attempt(order, None, None, Reporter(None, Progress())), job(tmp_path / "out.mp4")
    attempt._log(job_).close()
    (tmp_path / "log" / "ranges").mkdir()
    older = {**FolderLog.read_header(tmp_path / "log"), "version": 2}
    (tmp_path / "log" / "index.jsonl").write_text(f"{json.dumps({'header': older})}\n")
    attempt._log(job_).close()
    assert FolderLog.read_header(tmp_path / "log") == {**older, "version": VERSION}
    assert not (tmp_path / "log" / "ranges").exists()
    assert "the log is restarted: " in caplog.text and "another version of upres" in caplog.text
