"""Live sources that are faster than the models: nothing waits, the newest frame is next, and what is shown has no holes."""

import io
import threading
from fractions import Fraction

import av
import fake
import numpy as np
import pytest
from paths import SAMPLE

from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.newest import Newest
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog

PIXELS = np.zeros((2, 2, 3), np.uint8)


class Source:
    """Frames that come when the test says so."""

    def __init__(self):
        self.turn = threading.Semaphore(0)
        self.came = threading.Semaphore(0)
        self.pts = 0
        self.end = None

    def bring(self, count):
        for _ in range(count):
            self.turn.release()
            assert self.came.acquire(timeout=30)

    def __iter__(self):
        while True:
            assert self.turn.acquire(timeout=30)
            self.came.release()
            if self.end:
                if isinstance(self.end, Exception):
                    raise self.end
                return
            yield Frame(PIXELS, self.pts, 1)
            self.pts += 1


def started():
    source, dropped = Source(), []
    newest = Newest(source, lambda: dropped.append(1))
    return source, newest, newest.frames(lambda: source.turn.release(9)), dropped


def test_the_newest_frame_is_next_and_covers_what_was_dropped_before_it():
    source, newest, frames, dropped = started()
    results = newest.covering(frames)
    source.bring(1)
    first = []
    waiting = threading.Thread(target=lambda: first.append(next(frames)))
    waiting.start()
    waiting.join(30)
    source.bring(6)  # the last may still be on its way into the queue; all before are dropped
    covered = newest.covering(iter(first))
    shown = next(covered)
    following = next(frames)
    assert shown.pts == 0 and following.pts >= 5
    assert shown.duration == following.pts
    assert len(dropped) == following.pts - 1
    source.end = True
    source.turn.release()
    assert [each.pts for each in results] in ([], [6])
    frames.close()


def test_a_model_that_is_as_fast_as_its_source_drops_nothing():
    source, newest, frames, dropped = started()
    for number in range(5):
        source.turn.release()
        frame = next(frames)
        assert (frame.pts, next(newest.covering([frame])).duration) == (number, 1)
    frames.close()
    assert dropped == []


def test_an_error_of_the_source_comes_after_the_frame_before_it():
    source, _, frames, _ = started()
    source.turn.release()
    assert next(frames).pts == 0
    source.end = OSError("gone")
    source.turn.release()
    with pytest.raises(OSError, match="gone"):
        next(frames)


class Slow(fake.Nearest):
    """Works on its first frame until the whole source has been read."""

    read: threading.Event

    def open(self, width, height):
        session = super().open(width, height)
        push = session.push

        def slow(frame):
            assert self.read.wait(60)
            return push(frame)

        session.push = slow
        return session


class Watched(Reader):
    def frames(self, on_packet=lambda packet: None):
        yield from super().frames(on_packet)
        self.model.read.set()


def test_a_run_that_keeps_up_shows_its_first_frame_until_the_next_and_keeps_the_sound():
    model = Slow()
    object.__setattr__(model, "read", threading.Event())
    progress, log = Progress(), MemoryLog({})
    job = Job((model,), Encoder(fragment="frame", live=True, preset="ultrafast"), keep_up=True)
    with Watched(SAMPLE, live=True) as reader:
        reader.model = model
        for _ in run(reader, job, log, progress):
            pass
    total = progress.frames_in
    assert total == 75
    assert progress.frames_out + progress.frames_dropped == total and progress.frames_out <= 4
    video = log.fragments("video")
    ends = [fragment.pts + fragment.duration for fragment in video]
    assert [fragment.pts for fragment in video[1:]] == ends[:-1]
    data = log.tracks["video"].init + b"".join(log.read(fragment) for fragment in video)
    with av.open(io.BytesIO(data)) as file:
        assert len(list(file.decode(video=0))) == progress.frames_out
    [name] = log.tracks.keys() - {"video"}
    sound = log.fragments(name)
    seconds = (sound[-1].pts + sound[-1].duration) * log.tracks[name].time_base
    assert abs(seconds - ends[-1] * log.tracks["video"].time_base) < Fraction(1, 10)
