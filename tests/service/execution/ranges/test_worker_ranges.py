"""Jobs whose ranges a worker processes: their memory, and what is kept of them."""

import socket
import time
from contextlib import closing, nullcontext

import fake
import pytest
from worker_desk import REQUEST, working

from upres.engine.ranges.folder import Ranges
from upres.service.domain.errors import NoRoomError
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost


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
        *_, report = desk.reports()
        assert report == {"report": "ranges", "numbers": [number for number in ranges["numbers"] if number != 1]}
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
    attempt_end, host_end = (Channel(end) for end in socket.socketpair())
    with closing(attempt_end), closing(host_end):
        host = ModelHost(host_end, fake.load, nullcontext, Claim(memory), Claim(merging, longest=0.01))
        host._do({"do": "model", "models": [("x", 2)], "content": "auto"}, None)
        with pytest.raises(NoRoomError):
            host._do({"do": "merge", "media": 500}, None)
        host._do({"do": "merge", "media": 400}, None)
        assert merging._reserved.total() == 1000 and host.waited > 0
        host._reserve({"width": 64, "height": 48, "media": 0})
        assert merging._reserved.total() == 600 and memory._reserved.total()
        host.close()
        assert not memory._reserved.total()
