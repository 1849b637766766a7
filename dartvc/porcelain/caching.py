"""What reuse saved, why a call was run, and forgetting all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.errors import NotFoundError
from dartvc.history import Repository
from dartvc.lineage import catalogue
from dartvc.lineage.account import ACCOUNT
from dartvc.sessions.registry import is_alive

__all__ = ["CacheStats", "Explanation", "Outcome", "clear_cache", "explain_call", "pin_calls", "read_stats"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The last run with reuse, and what is stored: calls that were watched, those answered whole and in part, time saved, bytes stored."""

    calls: int
    reused: int
    partial: int
    saved_s: float
    bytes: int
    results: int
    overhead_s: float
    sites: tuple[dict[str, Any], ...]
    pinned: tuple[str, ...] = ()
    evicted: int = 0
    spilled: int = 0
    memory_results: int = 0
    """What a kernel that is running holds; those that are stored, too, are among them."""
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls that came out alike: ``kind`` is hit, in part or miss; of a miss, ``differs`` is the first thing that differs from what was stored."""

    kind: str
    calls: int
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One function or operation of the last run: ``verdict`` is a sentence about all its calls, empty where ``outcomes`` tell everything."""

    name: str
    where: str
    calls: int
    executions: int
    reused: int
    partial: int
    cost_s: float
    verdict: str
    outcomes: tuple[Outcome, ...] = ()


def read_stats(repository: Repository) -> CacheStats:
    """Returns what reuse did in the last run and what is stored."""
    index = catalogue.read_index(repository)
    account = _account(repository)
    has_memory = bool(account.get("session")) and is_alive(repository.path, str(account["session"]))
    return CacheStats(
        int(account.get("calls", 0)),
        int(account.get("reused", 0)),
        int(account.get("partial", 0)),
        float(account.get("saved_s", 0.0)),
        sum(row[2] for row in index.values()),
        len(index),
        float(account.get("overhead_s", 0.0)),
        tuple(each for each in account.get("sites", ()) if each["calls"]),
        tuple(sorted(catalogue.read_pins(repository))),
        int(account.get("evicted", 0)),
        int(account.get("spilled", 0)),
        int(account["results_in_memory"]) if has_memory else 0,
        int(account["bytes_in_memory"]) if has_memory else 0,
    )


def clear_cache(repository: Repository, *, with_pinned: bool = False) -> int:
    """Forgets the stored results, those of pinned calls only when asked to; returns how many went."""
    return catalogue.clear(repository, with_pinned=with_pinned)


def pin_calls(repository: Repository, calls: Sequence[str], *, is_off: bool = False) -> tuple[str, ...]:
    """Keeps the results of calls whatever the policy says, or no longer; returns the names of all pinned calls.

    Raises:
        NotFoundError: nothing of such a call is stored, and the last run did not watch one.
    """
    pins = set(catalogue.read_pins(repository))
    known = {row[0] for row in catalogue.read_index(repository).values()} | {each["name"] for each in _account(repository).get("sites", ())}
    for call in calls:
        found = {name for name in known | pins if call in (name, name.rpartition(".")[2])}
        if not found:
            names = ", ".join(sorted(known)) or "none"
            raise NotFoundError(f"no result of {call!r} is stored", kind="unknown-call", hint=f"dvc-state cache pin NAME; known: {names}")
        pins = pins - found if is_off else pins | found
    if calls:
        catalogue.pin(repository, frozenset(pins))
    return tuple(sorted(pins))


def explain_call(repository: Repository, call: str) -> list[Explanation]:
    """Returns what became of a function or operation in the last run; of a run that was answered whole, that it was.

    Raises:
        NotFoundError: no call of this name was watched.
    """
    account = _account(repository)
    if account.get("answered_by"):
        whole = account["sites"][0]
        verdict = f"not called: the run was answered whole, by run {account['answered_by'][:8]}, of which nothing has changed"
        if call in (whole["name"], f"{whole['file']}:{whole['line']}"):
            return [Explanation(whole["name"], f"{whole['file']}:{whole['line']}", 1, 0, 1, 0, 0.0, verdict.removeprefix("not called: "))]
        return [Explanation(call, whole["file"], 0, 0, 0, 0, 0.0, verdict)]
    sites = account.get("sites", ())
    found = [each for each in sites if call in (each["name"], each["name"].rpartition(".")[2], f"{each['file']}:{each['line']}")]
    if not found:
        names = ", ".join(dict.fromkeys(each["name"] for each in sites)) or "none"
        raise NotFoundError(
            f"no call of {call!r} was watched in the last run", kind="unknown-call", hint=f"dvc-state cache explain NAME; watched: {names}"
        )
    return [_explain(repository, each) for each in found]


def _explain(repository: Repository, site: dict[str, Any]) -> Explanation:
    verdict = ""
    if not site["calls"]:
        verdict = "not called: whatever calls it was reused, or it was left alone from the start"
    elif site["reason"]:
        verdict = ("left alone: " if site["is_off"] else "run: ") + site["reason"]
    outcomes = tuple(_outcomes(repository, site)) if site["calls"] else ()
    where = f"{site['file']}:{site['line']}"
    return Explanation(
        site["name"], where, site["calls"], site["executions"], site["reused"], site["partial"], site["cost_s"], verdict, outcomes
    )


def _outcomes(repository: Repository, site: dict[str, Any]) -> Iterator[Outcome]:
    """Yields how the calls of a site came out, those that came out alike together."""
    if site["reused"]:
        yield Outcome("hit", site["reused"])
    if site["partial"]:
        yield Outcome("in part", site["partial"])
    if site["reason"]:
        return  # it ran for that, whatever is stored
    missed = {tuple((label, digest) for label, digest in components): count for components, count in site["missed"]}
    stored = [each for each in catalogue.iter_components(repository, site["name"]) if tuple(each) not in missed]
    found: Counter[str] = Counter()
    for components, count in missed.items():
        found[_first_difference(components, stored)] += count
    for differs, count in found.most_common():
        yield Outcome("miss", count, differs)
    if site["executions"] > found.total():
        yield Outcome("miss", site["executions"] - found.total())


def _first_difference(components: Sequence[tuple[str, str]], stored: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Compares what a call depended on with what the stored calls of the same function did; the closest one counts."""
    best: tuple[int, str] | None = None
    for recorded in stored:
        same = 0
        while same < min(len(components), len(recorded)) and components[same] == recorded[same]:
            same += 1
        if same < len(components) and (best is None or same > best[0]):
            best = (same, components[same][0])
    return best[1] if best is not None else "nothing like it was stored"


def _account(repository: Repository) -> dict[str, Any]:
    try:
        found = json.loads((repository.path / ACCOUNT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
