"""The choice of a model by height or scale, and the meaning of short names."""

import pytest

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.models.catalog import full_name
from upres.service.cli.run.choice import Choice
from upres.service.cli.run.options import ModelOptions


@pytest.mark.parametrize(
    ("height", "name", "way"),
    [(180, "RealESRGAN_Vid_x4", "--scale 2"), (539, "RealESRGAN_Vid_x4", "--scale 2"),
     (540, "RealESRGAN_Vid_x2", "--scale 4"), (1080, "RealESRGAN_Vid_x2", "--scale 4")],
)  # fmt: skip
def test_the_height_decides_and_the_way_to_change_it_is_said(height, name, way):
    selection = Choice(ModelOptions()).recommended(height)
    assert selection.names == (name,)
    assert f"{height}p" in selection.why and way in selection.why


def test_an_unknown_height_is_not_reported_as_none():
    assert Choice(ModelOptions()).recommended(0).why.startswith("size not known yet: upscaled 4 times")


@pytest.mark.parametrize(
    ("options", "names", "times", "resampled"),
    [
        ({"scale": 2}, ("RealESRGAN_Vid_x2",), 2, False),
        ({"scale": 3}, ("RealESRGAN_Vid_x4",), 3, True),
        ({"scale": 4}, ("RealESRGAN_Vid_x4",), 4, False),
        ({"model": "flashvsr"}, ("flashvsr",), 4, False),
        ({"model": "FlashVSR_Tiny", "scale": 3}, ("FlashVSR_Tiny",), 3, False),
        ({"chain": "flashvsr, x2", "scale": 2}, ("flashvsr", "x2"), 4, False),
        ({"chain": "x4,x2"}, ("x4", "x2"), 8, False),
    ],
)
def test_a_scale_picks_the_model_unless_one_is_named(options, names, times, resampled):
    selection = Choice(ModelOptions(**options)).explicit()
    assert (selection.names, selection.times, selection.resampled) == (names, times, resampled)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 1}, "--scale must be 2, 3 or 4, got 1"),
        ({"scale": 2, "model": "x4"}, "RealESRGAN_Vid_x4 upscales 4 times, not 2 times"),
        ({"model": "x2", "chain": "x4"}, "exclude each other"),
        ({"model": "x9"}, "unknown model 'x9'; there are: RealESRGAN_Vid_x4"),
    ],
)
def test_what_is_not_offered_is_refused(options, words):
    with pytest.raises((SettingsError, ModelError)) as refused:
        Choice(ModelOptions(**options)).explicit()
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("name", "scale", "full"),
    [
        ("x4", None, "RealESRGAN_Vid_x4"),
        ("X2", None, "RealESRGAN_Vid_x2"),
        ("flashvsr", None, "FlashVSR_Tiny"),
        ("realesrgan_vid_x2", None, "RealESRGAN_Vid_x2"),
        ("RealESRGAN_x4plus", None, "realesrgan-x4plus"),
        ("RealESRGAN_x4plus_anime_6B", None, "realesrgan-x4plus-anime"),
        ("x2plus", None, "realesrgan-x2plus"),
        ("realesr-animevideov3", None, "realesr-animevideov3-x4"),
        ("realesr-animevideov3", 2, "realesr-animevideov3-x2"),
        ("mine", None, "mine"),
    ],
)
def test_short_forms_and_other_tools_names_mean_a_model(name, scale, full):
    assert full_name(name, scale) == full
