"""Specs of jobs, and their form in the database."""

from upres.service.domain.spec import PROFILES, Limits, Spec

CHAIN = ("FlashVSR_Tiny", "RealESRGAN_Vid_x2")


def test_several_models_have_the_scale_of_all_and_the_shortest_limit():
    spec = Spec(CHAIN[0], CHAIN, scale=3)
    assert spec.chain() == [("FlashVSR_Tiny", 3), ("RealESRGAN_Vid_x2", 2)] and spec.resolved_scale() == 6
    assert Limits(seconds=PROFILES["deapi"]).longest(spec) == 10
    assert Spec.from_json(spec.as_json()) == spec
    older = {name: value for name, value in spec.as_json().items() if name != "models"}
    assert Spec.from_json(older).names == ("FlashVSR_Tiny",)  # as stored by an earlier build
