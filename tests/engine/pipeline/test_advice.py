"""The rules contain the advice of the model guide."""

import pytest

from upres.engine.pipeline.advice import Clip, Measured, advise, in_words

CLEAN = Measured(interlaced=0.0, blocks=1.0, noise=0.5)


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (Clip(480, 10, "auto", CLEAN), ["small", "grade"]),
        (Clip(539, 10, "photo", CLEAN), ["small", "grade"]),
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
