"""Numbers in messages are easy to read, and addresses contain no secrets."""

from fractions import Fraction

import pytest

from upres.engine.core.text import counted, number, redacted


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (100.0, 2, "100"), (123456.0, 2, "120000"), (0.0123, 2, "0.012"), (1e-7, 2, "0.0000001"), (1.0, 2, "1"),
        (0.25, 12, "0.25"), (Fraction(1234567), 12, "1234567"), (86400000.0, 12, "86400000"), (10**30, 12, "1" + "0" * 30),
        (Fraction(1, 3), 4, "0.3333"), (float("inf"), 12, "Infinity"),
    ],
)  # fmt: skip
def test_a_number_has_no_exponent(value, digits, text):
    assert number(value, digits) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 frames"), (1, "1 frame"), (1.0, "1 frame"), (2, "2 frames"), (0.5, "0.5 frames")]
)
def test_one_is_singular(count, text):
    assert counted(count, "frame") == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("whip+https://SECRET@h/x: needs ffmpeg", "whip+https://h/x: needs ffmpeg"),
        (
            "failed for srt://h:1?passphrase=SECRET&latency=5: Input/output error",
            "failed for srt://h:1: Input/output error",
        ),
        ("(RTSP://user:p@SECRET@h/it's?key=SECRET); 'tcp://[::1]:80'", "(RTSP://h/it's); 'tcp://[::1]:80'"),
        ("a@b/what?.mp4: no such file", "a@b/what?.mp4: no such file"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(text, seen):
    assert redacted(text) == seen
