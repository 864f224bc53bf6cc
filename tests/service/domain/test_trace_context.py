"""A traceparent is accepted exactly if it is valid by the W3C's Trace Context."""

import pytest

from upres.service.domain.trace_context import accepted, ids

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_names_a_trace_and_a_span():
    assert accepted([TRACEPARENT]) == TRACEPARENT and ids(TRACEPARENT) == (TRACE, SPAN)


def test_what_a_later_version_adds_is_left_out():
    assert accepted([f"cc-{TRACE}-{SPAN}-01"]) == TRACEPARENT
    assert accepted([f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"]) == TRACEPARENT


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [TRACEPARENT, TRACEPARENT],
        [TRACEPARENT.upper()],
        [f" {TRACEPARENT}"],
        [f"{TRACEPARENT}\n"],
        [f"{TRACEPARENT}-more"],
        [f"cc-{TRACE}-{SPAN}-01more"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE[:-1]}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-\u0661\u0661"],
        ["0" * 1_000_000],
        [TRACEPARENT * 20_000],
        ["-" * 1_000_000],
    ],
)
def test_anything_else_is_none(values):
    assert accepted(values) is None
