"""Memory shared by an attempt and its worker: frames pass through it intact, hostile numbers are rejected, nothing is leaked."""

import fcntl
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing, nullcontext
from pathlib import Path

import fake
import numpy as np
import psutil
import pytest

from upres.engine.core.frame import Frame
from upres.service.execution import shared_frames
from upres.service.execution.channel import Channel
from upres.service.execution.memory_budget import Claim, MemoryBudget
from upres.service.execution.model_host import ModelHost
from upres.service.execution.shared_frames import shared_bytes
from upres.service.live import framing
from upres.service.live.framing import FramingError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")

SIZES = (50 * 70 * 3, 100 * 140 * 3)


def pair():
    return tuple(Channel(end) for end in socket.socketpair())


@pytest.fixture
def ends():
    """A worker's and an attempt's end of a channel with shared memory."""
    worker, attempt = pair()
    worker.share(SIZES)
    attempt.attach(attempt.receive()[0]["shared"])
    worker.limit(30)
    attempt.limit(30)
    yield worker, attempt
    worker.close()
    attempt.close()


def test_an_encoder_may_read_beyond_the_last_frame():
    """x264 reads RGB in vectors, beyond the end of a frame whose size is a multiple of a page, as those of 480p, 720p and 2160p."""
    frames, descriptor, peer = shared_frames.create((640 * 480 * 3, 640 * 480 * 3))
    os.close(descriptor)
    peer.close()
    with closing(frames):
        assert len(frames.memory) >= frames._sends.stop + 64


def frame(pts, height=100, width=140):
    return Frame(np.random.default_rng(pts).integers(0, 255, (height, width, 3), np.uint8), pts, 1, shot=pts == 0)


def same(one, other):
    return np.array_equal(one.pixels, other.pixels) and (one.pts, one.shot) == (other.pts, other.shot)


def test_frames_pass_both_ways_whole_in_order_and_not_by_the_socket(ends):
    worker, attempt = ends
    sent = [frame(pts) for pts in range(7)]
    thread = threading.Thread(target=lambda: [worker.send({}, one) for one in sent])
    thread.start()  # which waits, because there are fewer slots
    assert all(same(attempt.receive()[1], one) for one in sent)
    thread.join(30)
    for pts in range(5):
        small = frame(pts, 50, 70)
        attempt.send({"do": "push"}, Frame(small.pixels[:, ::-1], pts, 1, small.shot))  # not contiguous
        assert len(worker._socket.recv(1 << 16, socket.MSG_PEEK)) < 1000
        assert np.array_equal(worker.receive()[1].pixels, small.pixels[:, ::-1])


def test_frames_that_are_kept_stay_as_they_are_however_many_follow(ends):
    """They are in slots, and must be released before the last slot is used, or the worker and the attempt would deadlock."""
    worker, attempt = ends
    sent = [frame(pts) for pts in range(12)]
    kept = []
    for one in sent:
        worker.send({}, one)
        kept.append(attempt.receive()[1])
    assert all(map(same, kept, sent))
    del kept[1]  # only a slot in the middle is free
    worker.send({}, one := frame(99))
    assert same(attempt.receive()[1], one) and all(map(same, kept, [sent[0], *sent[2:]]))


def test_a_slot_that_is_freed_and_is_none_is_refused(ends):
    worker, attempt = ends
    for pts in range(shared_frames.UPSCALED_SLOTS):
        worker.send({}, frame(pts))
    attempt._shared._permits.send(b"\xff")
    with pytest.raises(FramingError, match="255"):
        worker.send({}, frame(9))


def test_a_frame_that_does_not_fit_passes_by_the_socket(ends):
    worker, attempt = ends
    large = frame(1, 60, 90)
    attempt.send({}, large)
    assert same(worker.receive()[1], large)


def test_what_the_attempt_writes_after_it_has_sent_changes_nothing(ends):
    worker, attempt = ends
    small = frame(0, 50, 70)
    attempt.send({}, small)
    received = worker.receive()[1]
    attempt._shared.memory[:] = bytes(len(attempt._shared.memory))
    assert same(received, small)


@pytest.mark.parametrize(
    ("slot", "height", "width"),
    [(-1, 5, 7), (2, 5, 7), (True, 5, 7), (0.0, 5, 7), ("0", 5, 7), ([0], 5, 7), (0, 151, 70)],
)
def test_a_slot_that_is_none_is_refused(ends, slot, height, width):
    worker, attempt = ends
    attempt.send({"frame": {"width": width, "height": height, "pts": 0, "duration": 1, "shot": False, "slot": slot}})
    with pytest.raises(FramingError, match="slot"):
        worker.receive()


def test_a_slot_is_refused_where_no_memory_is_shared_or_bytes_come_as_well(ends):
    place = {"width": 7, "height": 5, "pts": 0, "duration": 1, "shot": False, "slot": 0}
    worker, attempt = pair()
    with closing(worker), closing(attempt):
        attempt.send({"frame": place})
        with pytest.raises(FramingError, match="none is shared"):
            worker.receive()
    worker, attempt = ends
    attempt._socket.sendall(framing.encoded({"frame": place}, 5 * 7 * 3))
    with pytest.raises(FramingError, match="105 bytes"):
        worker.receive()


def test_one_that_keeps_every_slot_holds_its_worker_up_for_a_limited_time_and_one_that_is_gone_for_none(ends):
    worker, _ = ends
    worker.limit(0.1)
    for pts in range(shared_frames.UPSCALED_SLOTS):
        worker.send({}, frame(pts))
    with pytest.raises(TimeoutError):
        worker.send({}, frame(9))
    again, peer = pair()
    again.share(SIZES)
    peer.attach(peer.receive()[0]["shared"])
    for pts in range(shared_frames.UPSCALED_SLOTS):
        again.send({}, frame(pts))
    peer.close()
    with pytest.raises(BrokenPipeError):
        again.send({}, frame(9))
    again.close()


def test_its_size_is_fixed_for_good():
    own_end, descriptor, peer_end = shared_frames.create(SIZES)
    with peer_end:
        for size in (0, shared_bytes(SIZES) + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(descriptor)
    own_end.close()


def test_it_is_counted_with_what_is_reserved_and_made_once():
    near_end, peer_end = pair()
    budget = MemoryBudget(1 << 30)
    host = ModelHost(peer_end, fake.load, nullcontext, Claim(budget))
    host.answer({"do": "model", "models": [["RealESRGAN_Vid_x2", 2]], "content": "auto"}, None)
    near_end.receive()
    one = {"bytes": 100, "frame_seconds": 1.0, "most": 1}
    question = {"do": "reserve", "width": 70, "height": 50, "media": 1000, "encoder": one}
    host.answer(question, None)
    sizes = near_end.receive()[0]["shared"]
    assert sizes == list(SIZES)
    near_end.attach(sizes)
    assert near_end.receive()[0] == {"end": 1}
    assert budget._reserved.total() == 1000 + fake.Nearest(2).memory(70, 50) + shared_bytes(SIZES)
    host.answer(question, None)
    assert "once" in near_end.receive()[0]["text"]
    host.close()
    near_end.close()
    peer_end.close()


def test_where_nothing_can_be_shared_the_socket_carries_frames(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    worker, attempt = pair()
    with closing(worker), closing(attempt):
        worker.share(SIZES)
        worker.send({}, small := frame(0, 5, 7))
        assert same(attempt.receive()[1], small)


DYING = """
import os, signal, socket, sys
from upres.service.execution.channel import Channel
from upres.service.execution.sandbox.limits import die_with_parent
worker, attempt = map(Channel, socket.socketpair())
child = os.fork()
if not child:
    worker.close()
    die_with_parent()
    attempt.attach(attempt.receive()[0]["shared"])
    attempt.send({"report": "active"})
else:
    attempt.close()
    worker.share((3000, 12000))
    worker.receive()
    print(child, flush=True)
    try:
        worker.receive()
    except (EOFError, ConnectionError):
        worker.close()
        print("closed", flush=True)
signal.pause()
"""


def memory_of(pid):
    """The inodes of shared frames that a process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {line.split()[4] for line in lines if "upres-frames" in line}


def test_a_worker_that_is_killed_leaves_none_of_it():
    with subprocess.Popen([sys.executable, "-c", DYING], stdout=subprocess.PIPE, text=True) as worker:
        attempt = psutil.Process(int(worker.stdout.readline()))
        (inode,) = memory_of(attempt.pid)
        assert memory_of(worker.pid) == {inode}
        worker.kill()
    attempt.wait(30)
    assert not any(inode in memory_of(pid) for pid in psutil.pids())
    assert not any("upres-frames" in path.name for path in Path("/dev/shm").iterdir())


def test_an_attempt_that_is_killed_leaves_none_of_it_to_its_worker():
    with subprocess.Popen([sys.executable, "-c", DYING], stdout=subprocess.PIPE, text=True) as worker:
        attempt = psutil.Process(int(worker.stdout.readline()))
        (inode,) = memory_of(worker.pid)
        attempt.kill()
        assert worker.stdout.readline() == "closed\n"
        assert inode not in memory_of(worker.pid)
        worker.kill()
    assert not any(inode in memory_of(pid) for pid in psutil.pids())
