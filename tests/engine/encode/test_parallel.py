"""Concurrent encoding of segments: same bytes and order as sequential encoding, bounded memory, and no leaked resources."""

import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import SimpleNamespace

import media
import numpy as np
import pytest
from fake import Nearest, job

from upres.engine.api import stream
from upres.engine.core.errors import EncoderError, SourceError
from upres.engine.core.frame import Frame
from upres.engine.encode import parallel
from upres.engine.encode.options import Encoder
from upres.engine.encode.parallel import in_parallel

LENGTH = 3  # frames per segment
BYTES = 12  # per frame
WAIT = 30


@pytest.mark.parametrize("codec", ["h264", "hevc", "lossless"])
@pytest.mark.parametrize("unit", ["segment", "frame"])
def test_it_makes_the_same_fragments(tmp_path, codec, unit):
    picture = "testsrc2=size=64x48:rate=10:duration=1[a];color=red:size=64x48:rate=10:duration=1.1[b];[a][b]concat"
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture=picture)
    encoder = Encoder(codec, segment_seconds=0.4, fragment=unit)
    jobs = [job(tmp_path / "out.mkv", Nearest(3), encoder=encoder, split=True, encoders=count) for count in (1, 2, 5)]
    results = [[(track.init, fragment, data) for track, fragment, data in stream(clip, each)] for each in jobs]
    assert len({fragment.segment for _, fragment, _ in results[0]}) == 7
    assert results[0] == results[1] == results[2]


@dataclass
class Encoders:
    """Encoders that only record their input. step: called with the segment's number before each of its frames."""

    step: object = lambda number: None
    frames: list[list[int]] = field(default_factory=list)
    open: int = 0
    most: int = 0
    encoded: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self):
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        times = []

        def encode(picture, frame):
            self.step(frame.pts // LENGTH)
            times.append(frame.pts)
            with self.lock:
                self.encoded += 1

        def close():
            with self.lock:
                self.open -= 1

        return SimpleNamespace(encode=encode, finish=lambda: times, close=close), lambda frame, carrier: frame

    def run(self, frames, encoders=2, queue_frames=100):
        return in_parallel(frames, self.start, encoders=encoders, queue_bytes=queue_frames * BYTES)


def numbered(count):
    for pts in range(count):
        yield pts % LENGTH == 0, (Frame(np.zeros((2, 2, 3), np.uint8), pts, 1, shot=False), None)


def segments(count):
    return [list(range(start, start + LENGTH)) for start in range(0, count, LENGTH)]


@pytest.fixture(autouse=True)
def no_thread_remains():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Queue(SimpleQueue):
    """The queue of a segment that records whether the end of the segment was put into it."""

    ended = False

    def put(self, item):
        self.ended = self.ended or item is None
        super().put(item)


class Condition(threading.Condition):
    """The condition of a room, which fails if a change is not announced within `WAIT` seconds. waits: set once a frame waits."""

    waits: threading.Event

    def wait_for(self, predicate, timeout=WAIT):
        while not predicate():
            self.waits.set()
            assert self.wait(timeout), "waits for room that no encoder releases"


@pytest.fixture(autouse=True)
def every_wait_ends(monkeypatch):
    """Fail instead of hanging if in_parallel waits for room forever, or for a segment whose encoder waits for frames forever.

    Its value is an event that is set once a frame waits for room.
    """
    endless, waits = [], threading.Event()

    def checked(wait, ends):
        def call(segment):
            if not ends(segment):
                endless.append(wait.__name__)
                segment.end()
            return wait(segment)

        return call

    segment = parallel._Segment
    monkeypatch.setattr(Condition, "waits", waits, raising=False)
    monkeypatch.setattr(parallel, "threading", SimpleNamespace(Condition=Condition))
    monkeypatch.setattr(parallel, "SimpleQueue", Queue)
    result = checked(segment.result, lambda each: each._waiting.ended or not each._room.open)
    monkeypatch.setattr(segment, "result", result)
    monkeypatch.setattr(segment, "close", checked(segment.close, lambda each: each._waiting.ended or each.done))
    yield waits
    assert not endless, f"{set(endless)}: waits for a segment that no `end` or `drop` has ended"


def test_a_segment_is_encoded_beside_the_one_before_it_and_comes_after_it():
    """The first segment waits for the second."""
    second = threading.Event()
    encoders = Encoders(lambda number: second.set() if number else second.wait(WAIT))
    assert list(encoders.run(numbered(6))) == segments(6)
    assert second.is_set() and encoders.open == 0


def test_no_more_encoders_are_open_and_no_more_frames_wait_than_may():
    pulled = 0
    enough = threading.Event()

    def counted(frames):
        nonlocal pulled
        for frame in frames:
            pulled += 1
            assert pulled - encoders.encoded <= 4 + 3 + 1  # waiting, being encoded, and in transit
            if pulled >= 5:
                enough.set()
            yield frame

    encoders = Encoders(lambda number: enough.wait(WAIT))
    assert list(encoders.run(counted(numbered(60)), encoders=3, queue_frames=4)) == segments(60)
    assert 2 <= encoders.most <= 3 and encoders.open == 0


def test_a_frame_larger_than_the_queue_may_wait_alone():
    assert list(Encoders().run(numbered(9), queue_frames=0)) == segments(9)


def test_an_error_of_a_segment_comes_after_the_segments_before_it():
    failed = threading.Event()

    def step(number):
        if number == 2:
            failed.set()
            raise EncoderError("of the third")
        failed.wait(WAIT)

    encoders = Encoders(step)
    yielded = []
    with pytest.raises(EncoderError, match="third"):
        for piece in encoders.run(numbered(60), encoders=4):
            yielded.append(piece)
    assert yielded == segments(6) and encoders.open == 0


def test_an_error_of_a_segment_ends_the_wait_for_room(every_wait_ends):
    def step(number):
        every_wait_ends.wait(WAIT)
        raise EncoderError("of the first")

    encoders = Encoders(step)
    with pytest.raises(EncoderError, match="first"):
        list(encoders.run(numbered(60), queue_frames=1))
    assert every_wait_ends.is_set() and encoders.open == 0


def test_an_error_upstream_comes_after_every_segment_that_is_whole():
    def broken():
        yield from numbered(7)
        raise SourceError("damaged")

    yielded = []
    encoders = Encoders()
    with pytest.raises(SourceError, match="damaged"):
        for piece in encoders.run(broken(), encoders=4):
            yielded.append(piece)
    assert yielded == segments(6) and encoders.open == 0


def with_the_first_waiting(until, going=None):
    """Return encoders whose first segment waits until this number of frames has arrived; the others wait for `going`, if set."""
    enough = threading.Event()

    def frames():
        for number, frame in enumerate(numbered(60)):
            if number == until:
                enough.set()
            yield frame

    def step(number):
        if number == 0:
            enough.wait(WAIT)
        elif going:
            going.wait(WAIT)

    return Encoders(step), frames()


def test_a_segment_that_waits_for_the_one_before_it_still_counts():
    encoders, frames = with_the_first_waiting(2 * LENGTH)
    assert list(encoders.run(frames)) == segments(60)
    assert encoders.most == 2


def test_closing_it_leaves_out_what_is_not_encoded_yet(monkeypatch):
    """Segments after the first continue with their first frames once only their ends are waited for."""
    going, close = threading.Event(), parallel._Segment.close
    encoders, frames = with_the_first_waiting(2 * LENGTH, going=going)
    pieces = encoders.run(frames, encoders=3)
    assert next(pieces) == [0, 1, 2]
    monkeypatch.setattr(parallel._Segment, "close", lambda segment: going.set() or close(segment))
    pieces.close()
    assert LENGTH <= encoders.encoded <= LENGTH + 2 and encoders.open == 0
