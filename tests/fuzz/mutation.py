"""Mutation of valid inputs with a seeded generator, and minimization of inputs that fail."""

import random
from collections.abc import Callable, Sequence

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]
MOST_CHANGES = 8
MOST_TRIES = 200  # attempts to find a smaller input


def mutate(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with a few changes; most of it stays valid, so that it passes deep into a parser."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, MOST_CHANGES)):
        chance.choice(CHANGES)(chance, data, seeds)
    return bytes(data)


def _span(chance: random.Random, data: bytearray) -> tuple[int, int]:
    """Return a position in the data, more often near its start, where headers are, and a short length."""
    end = len(data) if chance.random() < 0.5 else min(len(data), 256)
    return chance.randrange(end + 1), chance.choice((1, 2, 4, 8, 64, 1024))


def _flip(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[_span(chance, data)[0] % len(data)] ^= 1 << chance.randrange(8)


def _number(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at, _ = _span(chance, data)
    size = chance.choice((1, 2, 4, 8))
    number = chance.choice(NUMBERS) & ((1 << 8 * size) - 1)
    data[at : at + size] = number.to_bytes(size, chance.choice(("big", "little")))


def _noise(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at, size = _span(chance, data)
    data[at : at + size] = chance.randbytes(size)


def _remove(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at, size = _span(chance, data)
    del data[at : at + size]


def _repeat(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at, size = _span(chance, data)
    data[at:at] = data[at : at + size] * chance.randint(1, 8)


def _splice(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    at, start = _span(chance, data)[0], chance.randrange(len(other) + 1)
    size = chance.choice((8, 64, 1024, 1 << 14))
    data[at : at + size] = other[start : start + size]


def _cut(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


CHANGES = [_flip, _flip, _number, _number, _noise, _remove, _repeat, _splice, _cut]


def minimize(data: bytes, fails: Callable[[bytes], object], tries: int = MOST_TRIES) -> bytes:
    """Return a smaller input that still fails, by removing ever shorter pieces: Zeller and Hildebrandt's ddmin."""
    size = len(data) // 2
    while size and tries > 0:
        at = 0
        while at < len(data) and tries > 0:
            smaller, tries = data[:at] + data[at + size :], tries - 1
            if fails(smaller):
                data = smaller
            else:
                at += size
        size //= 2
    return data
