"""Selection of the objects that a log or a source consists of."""

import pytest

from upres.service.storage.kept import object_keys
from upres.service.storage.kept.object_keys import Part, chain, key, log_chain, parts, truncated


def chain_of(*ends, name="a"):
    return parts((key(f"p/j/log/{name}/", start, end), end - start) for start, end in ends)


def edges(line):
    return [(part.start, part.end) for part in line]


@pytest.mark.parametrize(
    ("ends", "limit", "expected"),
    [
        ([], None, []),
        ([(5, 9)], None, []),
        ([(0, 5), (5, 9), (10, 12)], None, [(0, 5), (5, 9)]),
        ([(0, 5), (0, 7), (5, 9)], None, [(0, 5), (5, 9)]),  # a part that was uploaded again with another length
        ([(0, 5), (5, 9)], 5, [(0, 5)]),
        ([(0, 5), (5, 9)], 0, []),
        ([(0, 5), (5, 9)], 7, [(0, 5)]),
        ([(0, 0)], None, []),
    ],
)
def test_a_chain_goes_as_far_as_its_parts_touch(ends, limit, expected):
    assert edges(chain(chain_of(*ends), end=limit)) == expected


def test_other_keys_are_no_parts():
    assert parts([("p/j/log/a/generation", 3), ("p/j/source/1-2", 1)]) == []
    assert parts([(key("p/j/source/", 0, 3), 3)]) == [Part(0, 3, key("p/j/source/", 0, 3), 3)]


def test_a_log_goes_from_generation_to_generation_where_its_row_says_so():
    there = [*chain_of((0, 5), (5, 9), (9, 12)), *chain_of((5, 8), (8, 11), name="b")]
    assert edges(log_chain(there, [("a", None)])) == [(0, 5), (5, 9), (9, 12)]
    assert edges(log_chain(there, [("a", 5), ("b", None)])) == [(0, 5), (5, 8), (8, 11)]
    assert edges(log_chain(there, [("a", 6), ("b", None)])) == [(0, 5)]  # a gap ends it
    assert edges(log_chain(there, [("c", None)])) == []


def test_generations_end_where_another_one_goes_on():
    assert truncated([("a", 5), ("b", None)], 8) == [("a", 5), ("b", 8)]
    assert truncated([("a", 5), ("b", None)], 5) == [("a", 5)]
    assert truncated([("a", 5), ("b", None)], 3) == [("a", 3)]
    assert truncated([("a", None)], 0) == []
    assert object_keys.generations([["a", 5], ["b", None]]) == [("a", 5), ("b", None)]


def test_an_object_of_a_source_that_has_not_all_of_its_bytes_is_none():
    there = [("p/j/source/" + object_keys.key("", 0, 5, 1), 5), ("p/j/source/" + object_keys.key("", 5, 9, 0xAB), 3)]
    assert edges(object_keys.source_chain(parts(there))) == [(0, 5)]
    assert [part.crc32c for part in parts(there)] == [1, 0xAB]
    again = ("p/j/source/" + object_keys.key("", 5, 9, 0xAC), 4)
    assert edges(object_keys.source_chain(parts([*there, again]))) == [(0, 5), (5, 9)]


def in_ranges(generation, name, *ends, crc32c=None):
    return parts((key(f"p/j/ranges/{generation}/{name}/", start, end, crc32c), end - start) for start, end in ends)


def test_of_each_range_the_longest_copy_of_the_newest_plan_is_used():
    kept = [("a", 10), ("b", 20), ("c", None)]
    there = [
        *in_ranges("a", "plan", (0, 4), crc32c=2),
        *in_ranges("a", "00001", (0, 90)),  # by another plan
        *in_ranges("b", "plan", (0, 4), crc32c=1),
        *in_ranges("b", "00001", (0, 5), (5, 9)),
        *in_ranges("b", "00002", (0, 5)),
        *in_ranges("c", "plan", (0, 4), crc32c=1),
        *in_ranges("c", "00001", (0, 7), (9, 12)),
        *in_ranges("c", "00003", (4, 7)),
        *in_ranges("c", "..", (0, 7)),
        *in_ranges("late", "00001", (0, 99)),  # by a server that lost the job
    ]
    plan, chains = object_keys.range_chains(there, kept)
    assert plan.key.startswith("p/j/ranges/c/plan/")
    assert {name: edges(line) for name, line in chains.items()} == {
        "00001": [(0, 5), (5, 9)],
        "00002": [(0, 5)],
        "00003": [],
    }
    assert object_keys.range_chains([part for part in there if "/plan/" not in part.key], kept) is None
    assert object_keys.range_chains([], kept) is None
