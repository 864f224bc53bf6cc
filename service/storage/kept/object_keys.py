"""Object keys of a job's source, log and unmerged ranges. A key names the byte range that its object holds.

So an object is never overwritten with different bytes: the same range of a source always has the same bytes, and each server or
restart writes the log under its own name, its *generation*. The job's row records the generations of a log and where each ends.
The ranges that are not merged into a log yet are below its generation, with the plan that they follow, each as a complete copy.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Generations = list[tuple[str, int | None]]
"""Generations of a log in order, each with its end in bytes of the index; None for the last one, which is still growing."""

PLAN = "plan"
NAME = re.compile(r"(\d{15})-(\d{15})(?:-([0-9a-f]{8}))?")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """An object. start, end: byte range of the source or of the log's index. size: of the object. crc32c: only of a source."""

    start: int
    end: int
    key: str
    size: int
    crc32c: int | None = None


def job(prefix: str, request_id: str) -> str:
    """Return the key prefix of all objects of a job. prefix: of the server's keys."""
    return f"{prefix}{request_id}/"


def source(prefix: str, request_id: str) -> str:
    """Return the key prefix of a job's source."""
    return f"{job(prefix, request_id)}source/"


def log(prefix: str, request_id: str) -> str:
    """Return the key prefix of a job's log."""
    return f"{job(prefix, request_id)}log/"


def ranges(prefix: str, request_id: str) -> str:
    """Return the key prefix of the ranges of a job's log that are not merged into it."""
    return f"{job(prefix, request_id)}ranges/"


def key(key_prefix: str, start: int, end: int, crc32c: int | None = None) -> str:
    """Return the key of the object that holds bytes `start` to `end`. crc32c: only of a source."""
    return f"{key_prefix}{start:015}-{end:015}" + (f"-{crc32c:08x}" if crc32c is not None else "")


def before(key_prefix: str, start: int) -> str:
    """Return a key that sorts directly before the keys of the objects under a prefix that start at `start` or later."""
    return f"{key_prefix}{start:015}"


def parts(objects: Iterable[tuple[str, int]]) -> list[Part]:
    """Parse the keys and sizes of objects into parts; other keys are ignored."""
    matches = ((NAME.fullmatch(name.rpartition("/")[2]), name, size) for name, size in objects)
    return [
        Part(int(match[1]), int(match[2]), name, size, int(match[3], 16) if match[3] else None)
        for match, name, size in matches
        if match
    ]


def source_chain(available: Iterable[Part]) -> list[Part]:
    """Select contiguous parts of a source from its beginning; truncated objects are ignored."""
    return chain(part for part in available if part.size == part.end - part.start)


def chain(available: Iterable[Part], start: int = 0, end: int | None = None) -> list[Part]:
    """Select contiguous parts from `start` as far as possible, up to `end` at most."""
    reached: dict[int, Part | None] = {start: None}  # end of a contiguous sequence → its last part
    for part in sorted(available):
        if (
            part.start in reached
            and part.end not in reached
            and part.start < part.end
            and (end is None or part.end <= end)
        ):
            reached[part.end] = part
    chained: list[Part] = []
    last = reached[max(reached)]
    while last is not None:
        chained.append(last)
        last = reached[last.start]
    return chained[::-1]


def log_chain(available: Iterable[Part], kept: Generations, start: int = 0) -> list[Part]:
    """Select contiguous parts of a log from `start`, each generation up to its end. available: of all generations beyond it."""
    chained: list[Part] = []
    reached, parts = start, list(available)
    for name, end in kept:
        if end is not None and end <= reached:
            continue
        chained += chain((part for part in parts if part.key.split("/")[-2] == name), reached, end)
        reached = chained[-1].end if chained else start
        if end not in (None, reached):
            break
    return chained


def range_chains(available: Iterable[Part], kept: Generations) -> tuple[Part, dict[str, list[Part]]] | None:
    """Select the newest plan of a log's ranges, and for each of its ranges the longest contiguous copy; None without a plan.

    available: parts of the ranges of all generations. Copies made by another plan are ignored.
    """
    copies = grouped(available)
    plan, chains = None, dict[str, list[Part]]()
    for generation, _ in reversed(kept):
        copy = copies.get(generation, {})
        own_plan = next(iter(source_chain(copy.pop(PLAN, ()))), None)
        if own_plan is None or (plan is not None and (own_plan.size, own_plan.crc32c) != (plan.size, plan.crc32c)):
            continue
        plan = plan or own_plan
        for name, parts in copy.items():
            if name.isdigit():
                chains[name] = max(chains.get(name, []), chain(parts), key=_end)
    return None if plan is None else (plan, chains)


def _end(chained: Sequence[Part]) -> int:
    return chained[-1].end if chained else 0


def grouped(available: Iterable[Part]) -> dict[str, dict[str, list[Part]]]:
    """Group parts of ranges by generation and by name: the number of the range, or PLAN."""
    copies: dict[str, dict[str, list[Part]]] = {}
    for part in available:
        generation, name, _ = part.key.rsplit("/", 3)[1:]
        copies.setdefault(generation, {}).setdefault(name, []).append(part)
    return copies


def generations(kept: Sequence[Sequence[object]]) -> Generations:
    """Parse the generations of a log from a job's row."""
    return [(str(name), int(str(end)) if end is not None else None) for name, end in kept]


def truncated(before: Generations, end: int) -> Generations:
    """Return the generations of a log that is truncated at `end`, in bytes of the index."""
    kept: Generations = []
    for name, until in before:
        reached = kept[-1][1] if kept else 0
        if reached is not None and end > reached:
            kept.append((name, end if until is None else min(until, end)))
    return kept
