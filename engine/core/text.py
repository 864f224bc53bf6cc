"""Formatting of numbers, addresses and untrusted text for messages."""

import re
from decimal import Decimal
from fractions import Fraction

ADDRESS = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^\s/?#]*@)?([^\s?#]*)(?:[?#]\S*?(?=[:;,.)'\"]*(?:\s|$)))?", re.IGNORECASE
)


def counted(count: float, noun: str) -> str:
    """Format a number with its noun, whose plural must end in s: 1 frame, 2 frames, 0.5 frames."""
    return f"{number(count)} {noun}{'s' * (count != 1)}"


def number(value: float | Fraction, digits: int = 12) -> str:
    """Format a number with at most this many significant digits and without an exponent: 100, not 1e+02."""
    return str(value) if isinstance(value, int) else format(Decimal(f"{float(value):.{digits}g}"), "f")


def redacted(text: str) -> str:
    """Return a text with all secrets removed from the URLs in it: user names, passwords and tokens before @, and queries."""
    return ADDRESS.sub(r"\1\2", text)


def printable(text: str) -> str:
    """Return text from a file as one line that is safe to print: control characters and whitespace become single spaces."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
