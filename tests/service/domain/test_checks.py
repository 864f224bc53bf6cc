"""Validation of requests and of their sources."""

import media
import pytest

from upres.engine.decode.reader import Reader
from upres.engine.models.catalog import SLUGS
from upres.service.api.error_map import answer
from upres.service.domain.checks import check_source, file_name, problems_of
from upres.service.domain.errors import TooLargeError, TooSmallError
from upres.service.domain.failures import failure_of
from upres.service.domain.spec import PROFILES, Limits, Spec
from upres.service.domain.states import Reason


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


CHAIN = ("FlashVSR_Tiny", "RealESRGAN_Vid_x2")


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        (Spec(CHAIN[0], CHAIN), {}),
        (Spec(CHAIN[0], CHAIN, scale=3), {}),
        (Spec(CHAIN[0], CHAIN, scale=5), {"scale": ["The scale must be between 2 and 4."]}),
        (Spec(CHAIN[1], CHAIN), {"model": ["The model must be the first of the models, or be left out."]}),
        (Spec(CHAIN[0], CHAIN * 2), {"models": ["There may be at most 3 models."]}),
        (Spec(CHAIN[0], CHAIN, live=True, streamed=True), {"models": ["A live source takes one model."]}),
        (Spec(CHAIN[0], live=True, streamed=True, step_down=True, when_slow="drop"), {}),
        (
            Spec(CHAIN[0], live=True, streamed=True, step_down=True),
            {"step_down": ["The step_down is only for a live source whose late frames are dropped: set when_slow to drop."]},
        ),
        (Spec(CHAIN[1], CHAIN[1:] * 2, scale=2),
         {"scale": ["The scale of RealESRGAN_Vid_x2 + RealESRGAN_Vid_x2 is fixed at 4; leave it out."]}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_several_models_is_named(spec, problems):
    assert problems_of(spec, Limits(), {}) == problems


def test_an_unknown_model_is_echoed_with_those_that_run_here_and_how_to_select_a_network():
    unavailable = {"FlashVSR_Tiny": "not installed"}
    [message] = problems_of(Spec("realesrgan-x4plus"), Limits(), unavailable)["model"]
    assert message == (
        "The selected model is invalid; there is no realesrgan-x4plus, there are RealESRGAN_Vid_x4, RealESRGAN_Vid_x2. "
        "realesrgan-x4plus is a network of RealESRGAN_Vid_x4 for `content` photo."
    )
    [message] = problems_of(Spec("none" * 20), Limits(), dict.fromkeys(SLUGS, "broken"))["model"]
    assert message.endswith(f"there is no {('none' * 20)[:40]}, there are none that this server can run.")


@pytest.mark.parametrize("size", ["2x2", "15x480", "640x8"])
def test_frames_that_are_too_small_are_not_called_too_large(tmp_path, size):
    clip = media.clip(
        tmp_path / "small.mkv", "-c:v", "ffv1", "-frames:v", 1, picture=f"color=size={size}:rate=1:duration=1"
    )
    with Reader(clip) as reader, pytest.raises(TooSmallError) as refused:
        check_source(reader.info, Spec("RealESRGAN_Vid_x4"), Limits())
    assert str(refused.value) == f"The video must measure at least 16 pixels a side, not {size}."
    assert answer(refused.value).reason == "SOURCE_UNPROCESSABLE" and answer(refused.value).http == 422
    failure = failure_of(type(refused.value).__name__, str(refused.value))
    assert failure.reason is Reason.SOURCE_UNPROCESSABLE


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.mp4", "a.mp4"), ("/home/me/secret/a.mp4", "a.mp4"), (r"C:\Users\me\a b.mov", "a b.mov"), ("clips/", None),
     ("a\x1b[2J\n\0.mp4", "a[2J.mp4"), ("b" * 300, "b" * 100), ("\udcff.mp4", ".mp4"), ("", None), (None, None)],
)  # fmt: skip
def test_of_a_path_only_a_printable_name_is_kept(path, name):
    assert file_name(path) == name
