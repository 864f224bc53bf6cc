"""Conversions to the contract's messages."""

import pytest

from upres.engine.encode.options import LIVE_PRESET
from upres.service.api.grpc.messages import spec_of, time_of
from upres.v2 import upscale_pb2 as pb


@pytest.mark.parametrize(("seconds", "micros"), [(1.0, 1_000_000), (1.9999996, 2_000_000), (1.2345678, 1_234_568)])
def test_times_are_rounded_and_lose_no_second(seconds, micros):
    assert time_of(seconds).ToMicroseconds() == micros


@pytest.mark.parametrize(
    ("options", "preset"),
    [({}, "fast"), ({"live": True}, LIVE_PRESET), ({"live": True, "preset": "medium"}, "medium")],
)
def test_live_results_are_encoded_fast_by_default(options, preset):
    assert spec_of(pb.UpscaleConfig(model="RealESRGAN_Vid_x2", **options), streamed=True).preset == preset
