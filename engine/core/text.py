"""Numbers and addresses as messages say them."""

import re
from decimal import Decimal
from fractions import Fraction

ADDRESS = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^\s/?#]*@)?([^\s?#]*)(?:[?#]\S*?(?=[:;,.)'\"]*(?:\s|$)))?", re.IGNORECASE
)


def counted(count: float, noun: str) -> str:
    """Write a number with its noun, whose plural has an s: 1 frame, 2 frames, 0.5 frames."""
    return f"{number(count)} {noun}{'s' * (count != 1)}"


def number(value: float | Fraction, digits: int = 12) -> str:
    """Write a number with at most so many significant digits, and without an exponent: 100, and not 1e+02."""
    return str(value) if isinstance(value, int) else format(Decimal(f"{float(value):.{digits}g}"), "f")


def redacted(text: str) -> str:
    """Write a text with the addresses in it as anybody may see them: without users, passwords and tokens before @, and queries."""
    return ADDRESS.sub(r"\1\2", text)


def printable(text: str) -> str:
    """Write what a file says on one line of a terminal, which obeys control characters: these become spaces."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
