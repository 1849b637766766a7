"""What one repository lacks of another, held against sets; clocks may lie."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.model import Oid
from dartvc.remotes.negotiation import divergence_of, is_ancestor, iter_missing, missing_commits
from dartvc.store import ObjectDatabase, TreeEntry
from dartvc.store.copying import RecentReader

HISTORIES = st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=2, unique=True), st.integers(0, 1000)), min_size=1, max_size=20)


def build(path: Path, history: list[tuple[list[int], int]]) -> tuple[ObjectDatabase, list[Oid], list[set[Oid]]]:
    """Makes commits whose parents are chosen among the earlier ones; returns them with the ancestors of each (itself included)."""
    database = ObjectDatabase.create(path)
    batch = database.batch()
    made: list[Oid] = []
    ancestors: list[set[Oid]] = []
    for number, (chosen, time_s) in enumerate(history):
        parents = sorted({each % number for each in chosen}) if number else []
        blob = TreeEntry(0o100644, batch.add_blob(b"%d" % (number // 2)))
        tree = batch.add_tree({"names": TreeEntry(0o40000, batch.add_tree({f"n{number % 3}": blob})), "code": blob})
        made.append(batch.add_commit(tree, [made[each] for each in parents], f"c{number}", time_s, 0, "A <a@b>"))
        ancestors.append({made[number]}.union(*(ancestors[each] for each in parents)))
    batch.publish()
    return database, made, ancestors


@settings(max_examples=60)
@given(HISTORIES, st.data())
def test_nothing_that_is_missing_is_left_out_whatever_the_clocks_say(history: list[tuple[list[int], int]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database, made, ancestors = build(Path(folder) / "r", history)
        numbers = st.lists(st.integers(0, len(made) - 1), max_size=3)
        wants, haves = data.draw(numbers), data.draw(numbers)
        wanted = set().union(*(ancestors[each] for each in wants))
        had = set().union(*(ancestors[each] for each in haves))
        found = missing_commits(database, [made[each] for each in wants], database, [made[each] for each in haves])
        assert wanted - had <= set(found) <= wanted
        assert len(found) == len(set(found))
        place = {oid: index for index, oid in enumerate(found)}
        assert all(place[parent] < place[oid] for oid in found for parent in database.read_commit(oid).parents if parent in place)
        left, right = made[0], made[-1]
        assert is_ancestor(database, left, right) == (left in ancestors[-1])


@settings(max_examples=60)
@given(HISTORIES, st.sampled_from([10, 0, -10, -1]))
def test_with_clocks_a_little_wrong_exactly_what_is_missing_is_found(history: list[tuple[list[int], int]], pace_s: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clocked = [(parents, 1_000_000 + number * pace_s) for number, (parents, _) in enumerate(history)]
        database, made, ancestors = build(Path(folder) / "r", clocked)
        half = len(made) // 2
        found = missing_commits(database, [made[-1]], database, [made[half]])
        assert set(found) == ancestors[-1] - ancestors[half]
        apart = divergence_of(database, made[-1], made[half], "origin/main")
        assert (apart.ahead, apart.behind) == (len(ancestors[-1] - ancestors[half]), len(ancestors[half] - ancestors[-1]))


@settings(max_examples=40)
@given(HISTORIES)
def test_the_objects_below_missing_commits_are_each_found_once(history: list[tuple[list[int], int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database, made, ancestors = build(Path(folder) / "r", history)
        half = len(made) // 2
        everything = list(iter_missing(RecentReader(database), missing_commits(database, [made[-1]], database, []), lambda oid: False))
        assert len(everything) == len(set(everything))
        assert below(database, ancestors[-1]) == set(everything)
        there = below(database, ancestors[half])
        commits = missing_commits(database, [made[-1]], database, [made[half]])
        rest = list(iter_missing(RecentReader(database), commits, there.__contains__))
        assert set(rest) == below(database, ancestors[-1]) - there


def below(database: ObjectDatabase, commits: set[Oid]) -> set[bytes]:
    """Returns the ids of commits and of everything below them, the plain way."""
    found: set[bytes] = set()
    for oid in commits:
        found.add(bytes.fromhex(oid))
        trees = [database.read_commit(oid).tree]
        while trees:
            tree = trees.pop()
            found.add(bytes.fromhex(tree))
            for entry in database.read_tree(tree).values():
                if entry.mode == 0o40000:
                    trees.append(entry.oid)
                else:
                    found.add(bytes.fromhex(entry.oid))
    return found
