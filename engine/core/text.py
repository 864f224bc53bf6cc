"""Numbers as messages say them."""


def counted(count: int, noun: str) -> str:
    """Write a number with its noun, whose plural has an s: 1 frame, 2 frames."""
    return f"{count} {noun}{'s' * (count != 1)}"
