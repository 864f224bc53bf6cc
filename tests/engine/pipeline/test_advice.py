"""The rules contain the advice of the model guide."""

import pytest

from upres.engine.models.catalog import NETWORKS, SLUGS
from upres.engine.models.registry import CONTENTS
from upres.engine.pipeline.advice import Clip, Measured, advise, in_words

CLEAN = Measured(interlaced=0.0, blocks=1.0, noise=0.5)


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (Clip(480, 10, "auto", CLEAN), ["small", "grade"]),
        (Clip(539, 10, "photo", CLEAN), ["small", "filmed", "grade"]),
        (Clip(720, 10, "auto", CLEAN), ["large", "grade"]),
        (Clip(480, 10, "animation", CLEAN), ["small", "drawn", "grade"]),
        (Clip(1080, 20, "auto", CLEAN), ["large", "long", "grade"]),
        (Clip(1080, 31, "auto", CLEAN), ["large", "longer", "grade"]),
        (Clip(480, 10, "auto", CLEAN, hdr=True), ["small", "hdr", "grade"]),
        (Clip(480, 5, "auto", Measured(0.9, 2.0, 9.0)), ["small", "interlaced", "blocky", "noisy", "grade"]),
    ],
)
def test_rules(clip, expected):
    assert [rule.name for rule in advise(clip)] == expected


@pytest.mark.parametrize("content", ["photo", "animation"])
def test_the_advised_model_has_a_network_that_was_trained_on_the_content(content):
    settings = dict(rule.setting for rule in advise(Clip(480, 10, content, CLEAN)) if rule.setting)
    assert content in {NETWORKS[network].content for network in SLUGS[settings["model"]].networks}
    assert settings["content"] == content


def test_flashvsr_is_advised_for_what_it_was_trained_on():
    advice = {content: " ".join(rule.advice for rule in advise(Clip(480, 10, content, CLEAN))) for content in CONTENTS}
    assert NETWORKS["flashvsr-v1.1-tiny"].content == "photo"
    assert "on a GPU, FlashVSR_Tiny" in advice["photo"]
    assert "FlashVSR_Tiny was trained on live action only" in advice["animation"]


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (Measured(0.0, 1.06, 1.9), ("none", "none", "none")),
        (Measured(0.2, 1.2, 2.9), ("little", "little", "little")),
        (Measured(0.31, 1.26, 4.1), ("much", "much", "much")),
    ],
)
def test_much_is_what_a_pre_filter_is_advised_for(measured, words):
    assert tuple(in_words(measured).values()) == words
    advised = {rule.name for rule in advise(Clip(480, 5, "auto", measured))} & {"interlaced", "blocky", "noisy"}
    assert len(advised) == words.count("much")
