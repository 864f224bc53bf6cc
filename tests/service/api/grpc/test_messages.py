"""Conversions to the contract's messages."""

import pytest

from upres.service.api.grpc.messages import time_of


@pytest.mark.parametrize(("seconds", "micros"), [(1.0, 1_000_000), (1.9999996, 2_000_000), (1.2345678, 1_234_568)])
def test_times_are_rounded_and_lose_no_second(seconds, micros):
    assert time_of(seconds).ToMicroseconds() == micros
