"""Number of concurrent encoders: limited by the models' speed, the CPU cores and the memory."""

import threading
from fractions import Fraction
from types import SimpleNamespace

import media
import pytest
from fake import Nearest

from upres.engine.api import prepared, upscale
from upres.engine.core.frame import Color, Shape
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline import encoders as module
from upres.engine.pipeline.encoders import another_encoder, encoders_that_fit
from upres.engine.pipeline.estimate import predict
from upres.engine.pipeline.options import Job, resolved

HD = Shape(1280, 720, Fraction(1, 30), Fraction(30), Fraction(1), Color("bt709", "tv", "bt709", "bt709"))
GB = 1 << 30


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets the machine's CPU cores and free memory, by default 64 GB."""

    def has(cores, free=64 * GB):
        monkeypatch.setattr(module, "cpus", lambda: cores)
        monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))

    return has


def another(**encoder):
    return another_encoder(HD, resolved(Job((Nearest(2),), Encoder(**encoder)), HD)[1], 2)


def chosen(model_seconds, **encoder):
    return encoders_that_fit(another(**encoder), model_seconds=model_seconds, memory=GB)


def test_a_fast_model_gets_as_many_as_the_cores_allow(machine):
    for cores, count in ((2, 1), (4, 1), (8, 2), (16, 4), (32, 8)):
        machine(cores)
        assert chosen(0.005) == count


def test_a_model_that_is_slower_than_one_encoder_gets_one(machine):
    machine(64)
    assert [chosen(seconds) for seconds in (1.0, 0.05, 0.03, 0.01)] == [1, 1, 2, 5]


def test_what_is_published_frame_by_frame_has_one(machine):
    machine(64)
    assert chosen(0.001, fragment="frame") == chosen(0.001, live=True) == 1


def test_memory_is_left_for_others(machine):
    machine(16)
    each = another().bytes
    assert each > 2560 * 1440 * (33 + 30 * 3)  # an encoder, and one second of waiting frames
    for spare, count in ((3.9, 1), (4.1, 2), (8.1, 3), (100, 4)):
        machine(16, int(GB + spare * each))
        assert chosen(0.005) == count


class Fast(Nearest):
    """A model that predicts its own time."""

    def seconds(self, width, height):
        return 0.001


def test_a_prediction_counts_them(machine, tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=640x480:rate=10:duration=0.2")
    predictions = []
    for cores in (2, 16):
        machine(cores)
        with Reader(clip) as reader:
            predictions.append(predict(reader, Job((Fast(4),))))
            shape = reader.info.shape
    one, more = predictions
    each = another_encoder(shape, resolved(Job((Fast(4),)), shape)[1], 4, 2).bytes
    assert one.encoders == 1 < more.encoders
    assert more.memory - one.memory == (more.encoders - 1) * each


def test_a_run_has_as_many_as_were_predicted(machine, tmp_path):
    machine(16)
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=640x480:rate=10:duration=0.6")
    encoder, names = Encoder(segment_seconds=0.2, preset="ultrafast"), set()
    with prepared(clip, tmp_path / "more.mp4", Job((Fast(2),), encoder)) as work:
        prediction = predict(work.reader, work.job)
        work = work.with_encoders(prediction)
        work.run(tick=lambda: names.update(thread.name for thread in threading.enumerate()))
    assert prediction.encoders == 4 and any(name.startswith("encode_") for name in names)
    upscale(clip, tmp_path / "one.mp4", Job((Fast(2),), encoder))
    assert (tmp_path / "more.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
