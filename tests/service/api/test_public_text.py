"""Messages to clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.service.api.public_text import public


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("FlashVSR is not in /root/.cache/upres/flashvsr; get it", "FlashVSR is not in …; get it"),
        ("'/var/lib/upres/jobs/1/source': no space left", "'…': no space left"),
        ("~/models/x.onnx is damaged", "… is damaged"),
        ("half a pair: \ud800", "half a pair: ?"),
        ("see https://example.com/a/b and 1/1000, either/or, video/mp4, /x", None),
    ],
)
def test_paths_of_the_server_are_left_out(text, shown):
    assert public(text) == (shown or text)


@given(st.text(max_size=500), st.integers(10, 200))
def test_no_text_is_longer_than_its_bytes(text, most):
    assert len(public(text, most).encode(errors="replace")) <= most
