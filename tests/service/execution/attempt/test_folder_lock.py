"""A job's folder that another attempt has: it is waited for a while, who has it is said, and nothing of it is an attempt."""

import os
import socket

import pytest
from filelock import FileLock
from worker_desk import working

from upres.service.execution.attempt.folder_lock import NOBODY_KNOWN, LockedError, locked


def test_one_that_holds_a_lock_is_named_to_the_next(tmp_path):
    lock = tmp_path / "attempt.lock"
    own = f"process {os.getpid()} on {socket.gethostname()}"
    with locked(lock, 0), pytest.raises(LockedError, match=own), locked(lock, 0.01):
        pass
    with locked(lock, 0):
        pass


@pytest.mark.parametrize("said", [None, b"", b"\xff\xfe", b"x\n" * 1000])
def test_whatever_a_holder_says_of_itself_is_one_short_line(tmp_path, said):
    if said is not None:
        (tmp_path / "attempt.holder").write_bytes(said)
    with (
        FileLock(tmp_path / "attempt.lock"),
        pytest.raises(LockedError) as caught,
        locked(tmp_path / "attempt.lock", 0),
    ):
        pass
    assert len(caught.value.holder.splitlines()) == 1 and len(caught.value.holder) <= 200
    assert caught.value.holder == NOBODY_KNOWN or said == b"x\n" * 1000


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
