"""What one repository lacks of another: commits first, then the objects below them."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from dartvc.errors import CorruptError
from dartvc.model import Oid
from dartvc.store import ObjectDatabase
from dartvc.store.copying import RecentReader
from dartvc.store.objects import COMMIT, TREE, decode_commit

__all__ = ["Divergence", "divergence_of", "is_ancestor", "iter_missing", "missing_commits"]

_WANTED, _HAD = 1, 2
_CLOCK_SKEW_S = 300
"""By how much a commit may be older than what stands before it: clocks of two machines, and of one whose clock was set."""
_TREE_MODE, _SUBMODULE_MODE = b"40000", b"160000"
_ROW = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_ROWS = re.compile(rb"(?:[0-7]+ [^\0]+\0.{20})*", re.DOTALL)
_TREE_CACHE = 4096


@dataclass(frozen=True, slots=True)
class Divergence:
    """How a branch stands to the one that it follows: commits that only it has, commits that only the other has."""

    upstream: str
    ahead: int
    behind: int


def is_ancestor(database: ObjectDatabase, old: Oid, new: Oid) -> bool:
    """Whether ``old`` is ``new`` or stands before it. Believes no clock: the answer decides whether history is lost."""
    return old == new or any(oid == old for oid in database.iter_commits([new]))


def divergence_of(database: ObjectDatabase, branch: Oid, upstream: Oid, name: str) -> Divergence:
    """Counts what two branches have apart from each other."""
    if branch == upstream:
        return Divergence(name, 0, 0)
    ahead = missing_commits(database, [branch], database, [upstream])
    behind = missing_commits(database, [upstream], database, [branch])
    return Divergence(name, len(ahead), len(behind))


def missing_commits(source: ObjectDatabase, wants: Iterable[Oid], target: ObjectDatabase, haves: Iterable[Oid]) -> list[Oid]:
    """Returns the commits reachable from ``wants`` and not from ``haves``, parents before children.

    Both histories are walked together from their newest commits and only as far as they differ, the one of ``haves`` ahead of the other
    by as much as clocks may be wrong (commits count in whole seconds, so many share one). A clock that was wrong by more can make the
    answer larger than needed, never smaller.

    Args:
        source: has the wanted commits.
        wants: their tips.
        target: has the others.
        haves: tips whose whole history ``target`` has.

    Raises:
        CorruptError: a commit is gone or damaged.
    """
    flags: dict[Oid, int] = {}
    parents: dict[Oid, tuple[Oid, ...]] = {}
    met: dict[Oid, tuple[Oid, ...]] = {}
    queue: list[tuple[float, Oid]] = []
    waiting = 0  # entries of the queue that are wanted and not known to be had

    def mark(oid: Oid, flag: int) -> None:
        nonlocal waiting
        before = flags.get(oid, 0)
        after = before | flag
        if after == before:
            return
        flags[oid] = after
        database = target if after & _HAD else source
        met[oid], time_s = database.read_links(oid)
        heapq.heappush(queue, (-time_s if after & _HAD else _CLOCK_SKEW_S - time_s, oid))
        if after == _WANTED:
            waiting += 1
        elif before == _WANTED and oid not in parents:
            waiting -= 1

    for oid in haves:
        mark(oid, _HAD)
    for oid in wants:
        mark(oid, _WANTED)
    while waiting:
        _, oid = heapq.heappop(queue)
        flag = flags[oid]
        if flag == _WANTED and oid not in parents:
            waiting -= 1
        parents[oid] = met[oid]
        for parent in parents[oid]:
            mark(parent, flag)
    return _parents_first([oid for oid, flag in flags.items() if flag == _WANTED], parents)


def _parents_first(oids: Collection[Oid], parents: dict[Oid, tuple[Oid, ...]]) -> list[Oid]:
    wanted = set(oids)
    ordered: dict[Oid, None] = {}
    for first in reversed(list(oids)):
        stack = [first]
        while stack:
            oid = stack[-1]
            before = [parent for parent in parents[oid] if parent in wanted and parent not in ordered]
            if oid in ordered or not before:
                stack.pop()
                ordered[oid] = None
            else:
                stack.extend(before)
    return list(ordered)


def iter_missing(source: RecentReader, commits: Iterable[Oid], is_there: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yields the ids (20 bytes each) of commits and of everything below them that is not there yet, each once.

    A tree that its parent commit has, too, is there with all that is below it. Any other tree is looked through even when the target
    has it: a transfer that was cut off may have left it without what is below. A blob has nothing below.

    Args:
        source: has everything.
        commits: parents before children; what stands before them is at the target as a whole.
        is_there: whether the target has an object.

    Raises:
        CorruptError: an object on the way is gone or damaged.
    """
    read_rows = lru_cache(_TREE_CACHE)(lambda oid: _rows_of(source, oid))
    seen: set[bytes] = set()
    given: set[bytes] = set()
    for commit_oid in commits:
        raw = bytes.fromhex(commit_oid)
        tree, parents = _links(source, raw)
        if not is_there(raw):
            yield raw
        stack = [(tree, [_links(source, parent)[0] for parent in parents])]
        while stack:
            oid, befores = stack.pop()
            if oid in seen or oid in befores:
                continue
            seen.add(oid)
            if not is_there(oid):
                yield oid
            rows = read_rows(oid)
            known = [read_rows(before) for before in befores]
            for mode, name, entry in rows.difference(*known):
                if mode == _TREE_MODE:
                    stack.append((entry, [old for rest in known for is_tree, same, old in rest - rows if same == name and is_tree == mode]))
                elif mode != _SUBMODULE_MODE and entry not in given and not is_there(entry):
                    given.add(entry)
                    yield entry


def _rows_of(source: RecentReader, oid: bytes) -> frozenset[tuple[bytes, bytes, bytes]]:
    """Returns (mode, name, id) of the entries of a tree.

    Fast path: `decode_tree` by one regular expression, and sets, whose difference is what two versions of a tree do not share.
    """
    kind, data = source.read(oid)
    if kind != TREE or _ROWS.fullmatch(data) is None:
        raise CorruptError(f"object {oid.hex()} is not a tree", kind="tree", hint="dvc-state fsck")
    return frozenset(_ROW.findall(data))


def _links(source: RecentReader, oid: bytes) -> tuple[bytes, list[bytes]]:
    """Returns the tree and the parents of a commit."""
    kind, data = source.read(oid)
    if kind != COMMIT:
        raise CorruptError(f"object {oid.hex()} is not a commit", kind="commit", hint="dvc-state fsck")
    commit = decode_commit(Oid(oid.hex()), data)
    return bytes.fromhex(commit.tree), [bytes.fromhex(parent) for parent in commit.parents]
