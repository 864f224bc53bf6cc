"""Where a job's source and its log lie in the store: objects whose keys say which bytes they hold.

So nobody overwrites one with other bytes: of a source the same place holds the same bytes, and each server, or restart, writes a
log under a name of its own, its *generation*. Which generations a log consists of, and how far each goes, stands in the job's row.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Generations = list[tuple[str, int | None]]
"""The generations of a log in order, each with where it ends, in bytes of the index; None of the last one, which grows."""

NAME = re.compile(r"(\d{15})-(\d{15})(?:-([0-9a-f]{8}))?")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """start, end: which bytes of the source, or of the log's index. size: of the object. crc32c: of a source's bytes."""

    start: int
    end: int
    key: str
    size: int
    crc32c: int | None = None


def home(prefix: str, request_id: str) -> str:
    """Give where all of a job lies. prefix: the job's."""
    return f"{prefix}{request_id}/"


def source(prefix: str, request_id: str) -> str:
    """Give where a job's source lies."""
    return f"{home(prefix, request_id)}source/"


def log(prefix: str, request_id: str) -> str:
    """Give where a job's log lies."""
    return f"{home(prefix, request_id)}log/"


def key(place: str, start: int, end: int, crc32c: int | None = None) -> str:
    """Name the object that holds these bytes. crc32c: of a source's."""
    return f"{place}{start:015}-{end:015}" + (f"-{crc32c:08x}" if crc32c is not None else "")


def parts(objects: Iterable[tuple[str, int]]) -> list[Part]:
    """Read what lies in a place from the keys and sizes of its objects; other keys are left out."""
    named = ((NAME.fullmatch(name.rpartition("/")[2]), name, size) for name, size in objects)
    return [
        Part(int(found[1]), int(found[2]), name, size, int(found[3], 16) if found[3] else None)
        for found, name, size in named
        if found
    ]


def source_chain(found: Iterable[Part]) -> list[Part]:
    """Find the parts of a source as far as they go; an object that has not all of its bytes is none."""
    return chain(part for part in found if part.size == part.end - part.start)


def chain(found: Iterable[Part], start: int = 0, end: int | None = None) -> list[Part]:
    """Find parts each of which begins where the one before ends, from `start` as far as they go, or to `end` at most."""
    reached: dict[int, Part | None] = {start: None}
    for part in sorted(found):
        if (
            part.start in reached
            and part.end not in reached
            and part.start < part.end
            and (end is None or part.end <= end)
        ):
            reached[part.end] = part
    line: list[Part] = []
    last = reached[max(reached)]
    while last is not None:
        line.append(last)
        last = reached[last.start]
    return line[::-1]


def log_chain(found: Iterable[Part], kept: Generations) -> list[Part]:
    """Find the parts of a log, from its beginning as far as they go. found: of all its generations."""
    line: list[Part] = []
    reached, there = 0, list(found)
    for name, end in kept:
        line += chain((part for part in there if part.key.split("/")[-2] == name), reached, end)
        reached = line[-1].end if line else 0
        if end not in (None, reached):
            break
    return line


def generations(kept: Sequence[Sequence[object]]) -> Generations:
    """Read the generations of a log from a job's row."""
    return [(str(name), int(str(end)) if end is not None else None) for name, end in kept]


def closed(before: Generations, end: int) -> Generations:
    """Give those of a log that ends here from now on."""
    kept: Generations = []
    for name, until in before:
        reached = kept[-1][1] if kept else 0
        if reached is not None and end > reached:
            kept.append((name, end if until is None else min(until, end)))
    return kept
