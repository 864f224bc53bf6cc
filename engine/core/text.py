"""Numbers as messages say them."""

from decimal import Decimal
from fractions import Fraction


def counted(count: float, noun: str) -> str:
    """Write a number with its noun, whose plural has an s: 1 frame, 2 frames, 0.5 frames."""
    return f"{number(count)} {noun}{'s' * (count != 1)}"


def number(value: float | Fraction, digits: int = 12) -> str:
    """Write a number with at most so many significant digits, and without an exponent: 100, and not 1e+02."""
    return str(value) if isinstance(value, int) else format(Decimal(f"{float(value):.{digits}g}"), "f")
