"""Parsing of times in options."""

from fractions import Fraction

import pytest

from upres.engine.core.errors import SettingsError
from upres.service.cli.options import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90.1", Fraction(901, 10)),
        (".04", Fraction(1, 25)),
        ("1:30", 90),
        ("90:00", 5400),
        ("0:00:01", 1),
        ("01:02:03.004", 3723 + Fraction(4, 1000)),
        (" 7. ", 7),
    ],
)
def test_a_time_is_read_exactly(text, seconds):
    assert parse_time("--start", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "nan", "-1", "1e3", "1:60", "1:60:00", "1:2:3:4", "1::2", ":5", "1/3", "9" * 5000, "²"]
)
def test_what_is_no_time_is_told_both_forms(text):
    with pytest.raises(SettingsError, match=r"--start must be seconds, such as 90\.5, or \[h:\]m:s"):
        parse_time("--start", text)
