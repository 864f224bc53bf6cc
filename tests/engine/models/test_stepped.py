"""Several networks as one model: results have the same size for every network, and no frame is lost at a change."""

import numpy as np
import pytest
from fake import Nearest

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Color, Frame, Layout
from upres.engine.models import registry
from upres.engine.models.stepped import SteppedModel, stepped


def frames(count, kind=np.uint8):
    return [Frame(np.full((6, 8, 3), number, kind), number, 1) for number in range(count)]


def test_the_network_is_changed_between_two_frames_and_nobody_else_notices():
    heavy, light = Nearest(4, name="heavy"), Nearest(2, name="light")
    model = SteppedModel([heavy, light])
    assert model.levels == ["heavy", "light, resampled to 4 times"] and model.scale == 4
    session, results = model.open(8, 6), []
    for number, frame in enumerate(frames(6)):
        model.level = int(2 <= number < 4)
        results += session.push(frame)
    results += session.flush()
    assert [frame.pts for frame in results] == list(range(6))
    assert {frame.pixels.shape for frame in results} == {(24, 32, 3)}
    assert all((frame.pixels == frame.pts).all() for frame in results)
    assert (heavy.opened[0].count, light.opened[0].flushed) == (0, [2])
    session.close()
    assert heavy.opened[0].closed and light.opened[0].closed


def test_what_a_network_still_holds_comes_before_the_first_frame_of_the_next():
    model = SteppedModel([Nearest(2, lookahead=2, name="heavy"), Nearest(2, name="light")])
    session, results = model.open(8, 6), []
    for number, frame in enumerate(frames(5)):
        model.level = int(number >= 3)
        results += [each.pts for each in session.push(frame)]
    assert results == [0, 1, 2, 3, 4]


def test_sixteen_bits_and_planes_keep_their_form_when_they_are_resampled():
    deep = SteppedModel([Nearest(4, name="heavy"), Nearest(2, name="light")]).deep()
    deep.level = 1
    [frame] = deep.open(8, 6).push(Frame(np.full((6, 8, 3), 40_000, np.uint16), 0, 1))
    assert frame.pixels.dtype == np.uint16 and frame.pixels.shape == (24, 32, 3)
    assert abs(int(frame.pixels.mean()) - 40_000) < 200

    class Planes(Nearest):
        planar = True

        def on_planes(self, layout, width, height):
            return self

    on_planes = SteppedModel([Planes(4, name="heavy"), Planes(2, name="light")]).on_planes(
        Layout(Color("", "", "", ""), "left"), 8, 8
    )
    on_planes.level = 1
    [frame] = on_planes.open(8, 8).push(Frame(np.full((12, 8), 99, np.uint8), 0, 1))
    assert on_planes.planar and frame.planar and (frame.width, frame.height) == (32, 32) and (frame.pixels == 99).all()


def test_one_network_limited_to_eight_bits_or_rgb_limits_all():
    class Shallow:
        name, scale, warmup, report, digest = "light", 2, 0, "", ""

    model = SteppedModel([Nearest(2, name="heavy"), Shallow()])
    with pytest.raises(ModelError, match="not all of heavy, light support more than 8 bits"):
        model.deep()
    assert model.on_planes(Layout(Color("", "", "", ""), "left"), 8, 8) is None


def test_models_without_alternatives_are_not_stepped():
    heavy, light = Nearest(2, name="heavy"), Nearest(2, name="light")
    assert stepped(heavy, [light]).levels == ["heavy", "light"]
    assert stepped(light, [light]) is None and stepped(light, []) is None
    assert stepped(Nearest(2, name="heavy", warmup=None), [light]) is None
    assert stepped(heavy, [Nearest(4, name="larger")]) is None


LIGHT = [("RealESRGAN_Vid_x4", 4, "live"), ("RealESRGAN_Vid_x2", 2, "live")]


@pytest.mark.parametrize(
    ("model", "lighter"),
    [
        (("RealESRGAN_Vid_x2", 2), [("RealESRGAN_Vid_x2", 2, "live")]),
        (("RealESRGAN_Vid_x2", 2, "live"), []),
        (("realesr-live-x2", 2), []),
        (("RealESRGAN_Vid_x4", 4), LIGHT),
        (("RealESRGAN_Vid_x4", 4, "live"), LIGHT[1:]),
        (("realesr-live-x4", 4), LIGHT[1:]),
        (("realesrgan-x4plus", 4), [("RealESRGAN_Vid_x4", 4, "auto"), *LIGHT]),
        (("FlashVSR_Tiny", 4), []),
    ],
)
def test_lighter_alternatives_to_a_model(model, lighter):
    assert registry.lighter(*model) == lighter
