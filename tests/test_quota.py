"""Rates, on a clock of the test's own."""

import pytest
from upres.service.errors import BusyError
from upres.service.quota import Quota


def test_a_key_has_so_many_requests_a_minute_and_a_day():
    now = [90.0]
    quota = Quota(2, 3, clock=lambda: now[0])
    assert quota.take("a") == 1 and quota.take("a") == 0
    with pytest.raises(BusyError) as caught:
        quota.take("a")
    assert (caught.value.kind, caught.value.retry_seconds) == ("minute", 31)
    assert quota.take("b") == 1
    now[0] = 121.0
    assert quota.left("a") == 2 and quota.take("a") == 1
    with pytest.raises(BusyError) as caught:
        quota.take("a")
    assert caught.value.kind == "daily"
