"""Walks in pieces meet every object, and those that are met by several names or several times only once."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from dartvc.state.covariables import group_by_sharing
from dartvc.state.strings import find_interned, is_supported
from dartvc.state.walking import Waiting, by_references

MUTABLE = (list, dict, set)


def children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple | set) else []


def reachable(value: Any) -> dict[int, Any]:
    found: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting.extend(children(each))
    return found


def groups_of(values: dict[str, Any]) -> set[frozenset[str]]:
    """The groups as they are defined: names that lead to one mutable object, however often removed."""
    mutable = {name: {key for key, each in reachable(value).items() if isinstance(each, MUTABLE)} for name, value in values.items()}
    groups: list[set[str]] = []
    for name in values:
        tied = [group for group in groups if any(mutable[name] & mutable[other] for other in group)]
        groups = [group for group in groups if group not in tied] + [set().union({name}, *tied)]
    return set(map(frozenset, groups))


def made(rng: random.Random, depth: int, known: list[Any]) -> Any:
    """A value of lists, tuples, dicts and sets, some of whose parts are parts of earlier values, too."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice([1, 2.5, "text", None, sys.intern("an_interned_text"), "".join(["not ", "interned"])])
    if known and rng.random() < 0.08:
        return rng.choice(known)
    parts = [made(rng, depth - 1, known) for _ in range(rng.randrange(4))]
    kind = rng.choice([list, tuple, dict, set])
    value: Any = {f"key{index}": part for index, part in enumerate(parts)} if kind is dict else {rng.randrange(9), "in_a_set"} if kind is set else kind(parts)
    if rng.random() < 0.3:
        known.append(value)
    return value


@pytest.mark.parametrize("seed", range(60))
def test_names_are_grouped_as_a_plain_search_groups_them(seed: int) -> None:
    rng = random.Random(seed)
    known: list[Any] = []
    values = {f"name{index}": made(rng, 5, known) for index in range(12)}
    del known
    groups, _ = group_by_sharing(values, {}, "__main__")
    assert set(map(frozenset, groups)) == groups_of(values)


@pytest.mark.skipif(not is_supported(), reason="this interpreter keeps its marks elsewhere")
@pytest.mark.parametrize("seed", range(30))
def test_interned_strings_are_found_as_a_plain_search_finds_them(seed: int) -> None:
    rng = random.Random(seed)
    values = [made(rng, 6, []) for _ in range(20)]
    texts = {each for value in values for each in reachable(value).values() if type(each) is str}
    wanted = {each for each in texts if sys.intern("".join(list(each))) is each and each != "not interned"}
    assert set(find_interned(values, ())[0]) == wanted


def test_a_list_in_a_tuple_that_two_names_have_ties_them_though_it_has_one_reference() -> None:
    inner = ([1], ([2],))
    values = {"a": {"t": inner}, "b": [inner], "c": [3]}
    assert [set(group) for group in group_by_sharing(values, {}, "__main__")[0]] == [{"a", "b"}, {"c"}]


def test_more_than_fits_into_a_piece_is_walked() -> None:
    rows = [[index, [index]] for index in range(30_000)]
    last = [rows[-1][1]]
    assert [set(group) for group in group_by_sharing({"rows": rows, "last": last, "other": []}, {}, "__main__")[0]] == [{"rows", "last"}, {"other"}]
    waiting = Waiting()
    waiting.add(rows[:20_000])
    waiting.add(rows[20_000:])
    assert sorted(row[0] for piece, _ in waiting for row in piece) == list(range(30_000))


def test_a_chain_of_a_million_links_is_walked_in_little_memory() -> None:
    chain: list[Any] = []
    for _ in range(200_000):
        chain = [chain]
    waiting = Waiting()
    waiting.add([chain])
    met = 0
    for piece, _ in waiting:
        met += 1
        waiting.add([*piece[0]])
        assert len(waiting._lists) <= 2
    assert met == 200_001
    while chain:
        chain = chain[0]  # its destruction would recurse


def test_one_reference_is_told_from_two() -> None:
    once, twice = [1], [2]
    holder = [[once], [twice, twice]]
    del once, twice
    waiting = Waiting()
    waiting.add([*holder[0], *holder[1]])
    alone, several = next((by_references(piece) for piece, _ in waiting), ([], []))
    assert alone == [[1]] and several == [[2], [2]]
