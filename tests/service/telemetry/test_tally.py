"""Reports of an attempt are counted once, within bounds, and under known names, as the attempt may be compromised."""

import pytest

from upres.service.telemetry.labels import model_label
from upres.service.telemetry.tally import MOST_SECONDS, Tally


def counted(tally):
    return {
        tuple(sample.labels.values()): sample.value
        for metric in (*tally.stage_seconds.collect(), *tally.dropped.collect())
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def test_what_grows_is_counted_once():
    tally, marks = Tally(), {}
    for seconds, dropped in ((1.0, 0), (1.5, 2), (1.5, 5)):
        tally.progressed("m", marks, {"seconds": {"infer": seconds}, "frames_dropped": dropped})
    assert counted(tally) == {("infer", "m"): 1.5, ("m",): 5}


@pytest.mark.parametrize("claims", [[2.0**53] * 3, [0.0, 2.0**53] * 9])
def test_an_attempt_that_lies_cannot_count_without_bound(claims):
    tally, marks = Tally(), {}
    for claim in claims:
        tally.progressed("m", marks, {"seconds": {"infer": claim, "made up": claim}})
    assert counted(tally) == {("infer", "m"): MOST_SECONDS}


def test_models_are_few_names():
    assert model_label(["RealESRGAN_Vid_x2"]) == "RealESRGAN_Vid_x2"
    assert model_label(["RealESRGAN_Vid_x2"] * 2) == "chain" and model_label(["x" * 9999]) == "other"
