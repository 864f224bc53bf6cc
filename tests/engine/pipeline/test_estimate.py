"""Predicted memory is at least what an upscale uses, and grows with what is actually kept in memory."""

from fractions import Fraction

import pytest
from fake import Nearest

from upres.engine.core.errors import SettingsError
from upres.engine.core.frame import Color, Shape
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.estimate import estimate_memory, media_memory
from upres.engine.pipeline.keep_up import keep_up_budget
from upres.engine.pipeline.options import Job, resolved
from upres.engine.pipeline.stage import queue_budget

SDR = Color("bt709", "tv", "bt709", "bt709")


def shape(width: int, height: int) -> Shape:
    return Shape(width, height, Fraction(1, 25), Fraction(25), Fraction(1), SDR)


def test_models_decoder_and_encoder_are_included():
    job, source = Job((Nearest(2), Nearest(2))), shape(640, 480)
    _, encoding = resolved(job, source)
    models = Nearest(2).memory(640, 480) + Nearest(2).memory(1280, 960)
    media = media_memory(source, encoding, job.scale)
    assert estimate_memory(job, source, encoding) == models + media
    assert media > 33 * 2560 * 1920


def test_queued_frames_of_a_live_source_are_included():
    source = shape(1920, 1080)
    _, encoding = resolved(Job((Nearest(2),)), source)
    live = media_memory(source, encoding, 2, keep_up=True)
    assert live - media_memory(source, encoding, 2) == keep_up_budget(source) - queue_budget(source) > 0


def test_a_result_that_is_resampled_to_a_smaller_size_needs_less():
    source = shape(1920, 1080)
    whole, small = (Job((Nearest(4),), Encoder(height=height)) for height in (None, 1080))
    sizes = [estimate_memory(job, source, resolved(job, source)[1]) for job in (whole, small)]
    assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize(("width", "height", "codec"), [(4100, 16, "auto"), (16, 4100, "h264"), (4100, 4100, "hevc")])
def test_a_size_that_no_encoder_takes_is_refused_before_any_work(width, height, codec):
    with pytest.raises(SettingsError, match=r"no encoder takes .* at most 16384 pixels a side"):
        resolved(Job((Nearest(4),), Encoder(codec=codec)), shape(width, height))


def test_the_remedy_of_a_size_that_is_too_large_works():
    _, encoding = resolved(Job((Nearest(4),), Encoder(height=2160)), shape(4100, 2000))
    assert (encoding.width, encoding.height) == (4428, 2160)
