"""What is wrong with a source, before any work on it."""

import media
import pytest

from upres.engine.decode.reader import Reader
from upres.service.domain.errors import TooLargeError
from upres.service.domain.spec import PROFILES, Limits, Spec, check_source


def test_a_result_that_no_encoder_takes_is_refused_with_what_helps(tmp_path):
    clip = media.clip(tmp_path / "wide.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-frames:v", 1,
                      picture="color=size=4096x4096:rate=1:duration=1")  # fmt: skip
    with Reader(clip) as reader:
        with pytest.raises(TooLargeError, match=r"No encoder takes frames of 16384x16384: .* choose a smaller scale"):
            check_source(reader.info, Spec("RealESRGAN_Vid_x4"), Limits())
        check_source(reader.info, Spec("RealESRGAN_Vid_x2"), Limits())


def test_the_hosted_limits_of_length_hold_where_they_are_set_and_the_refusal_says_what_helps(tmp_path):
    clip = media.clip(tmp_path / "long.mp4", "-c:v", "libx264", picture="color=size=64x48:rate=1:duration=17")
    hosted = Limits(seconds=PROFILES["deapi"])
    with Reader(clip) as reader:
        check_source(reader.info, Spec("RealESRGAN_Vid_x4"), Limits())
        check_source(reader.info, Spec("RealESRGAN_Vid_x4", split=True), hosted)
        check_source(reader.info, Spec("RealESRGAN_Vid_x2"), hosted)
        with pytest.raises(TooLargeError) as refused:
            check_source(reader.info, Spec("RealESRGAN_Vid_x4"), hosted)
    assert "15 seconds for RealESRGAN_Vid_x4, it has 17.0" in str(refused.value)
    assert "`split`" in str(refused.value) and "limits and clip_seconds" in str(refused.value)
