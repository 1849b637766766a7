"""What reuse saved, why a call was run, and forgetting all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.errors import NotFoundError
from dartvc.history import Repository
from dartvc.lineage import catalogue
from dartvc.lineage.account import ACCOUNT

__all__ = ["CacheStats", "Explanation", "clear_cache", "explain_call", "pin_calls", "read_stats"]


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


@dataclass(frozen=True, slots=True)
class Explanation:
    """One function or operation of the last run: ``verdict`` is a sentence, ``differs`` the first thing that differs from what is stored."""

    name: str
    where: str
    calls: int
    executions: int
    reused: int
    partial: int
    cost_s: float
    verdict: str
    differs: str


def read_stats(repository: Repository) -> CacheStats:
    """Returns what reuse did in the last run and what is stored."""
    index = catalogue.read_index(repository)
    account = _account(repository)
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
    """Returns what became of a function or operation in the last run.

    Raises:
        NotFoundError: no call of this name was watched.
    """
    sites = _account(repository).get("sites", ())
    found = [each for each in sites if call in (each["name"], each["name"].rpartition(".")[2], f"{each['file']}:{each['line']}")]
    if not found:
        names = ", ".join(dict.fromkeys(each["name"] for each in sites)) or "none"
        raise NotFoundError(
            f"no call of {call!r} was watched in the last run", kind="unknown-call", hint=f"dvc-state cache explain NAME; watched: {names}"
        )
    return [_explain(repository, each) for each in found]


def _explain(repository: Repository, site: dict[str, Any]) -> Explanation:
    differs = ""
    if not site["calls"]:
        verdict = "not called: whatever calls it was reused, or it was left alone from the start"
    elif site["reason"]:
        verdict = ("left alone: " if site["is_off"] else "run: ") + site["reason"]
    elif site["last"] == "hit":
        verdict = "hit: the last call was answered from the store"
    else:
        verdict = "miss: the last call had to run"
        differs = _first_difference(repository, site)
    where = f"{site['file']}:{site['line']}"
    return Explanation(
        site["name"], where, site["calls"], site["executions"], site["reused"], site["partial"], site["cost_s"], verdict, differs
    )


def _first_difference(repository: Repository, site: dict[str, Any]) -> str:
    """Compares what the last call depended on with what the stored calls of the same function did; the closest one counts."""
    present = [tuple(each) for each in site["components"]]
    best: tuple[int, str] | None = None
    for recorded in catalogue.iter_components(repository, site["name"]):
        same = 0
        while same < min(len(present), len(recorded)) and present[same] == recorded[same]:
            same += 1
        if same == len(present):
            continue  # the call itself, stored by this very run
        if best is None or same > best[0]:
            best = (same, present[same][0])
    return best[1] if best is not None else "nothing like it is stored"


def _account(repository: Repository) -> dict[str, Any]:
    try:
        found = json.loads((repository.path / ACCOUNT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
