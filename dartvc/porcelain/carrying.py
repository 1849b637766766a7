"""Copy or recompute: the plan of a transfer, and the light commit that carries only what is cheaper to carry."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dartvc.errors import UntrustedError, UsageError
from dartvc.history import Repository
from dartvc.history.light import write_light
from dartvc.lineage.ancestry import Ancestry, read_ancestry
from dartvc.lineage.carrying import Choice, all_carried, all_remade, cheapest
from dartvc.model import Oid
from dartvc.sessions.rebuilding import Rebuilder, Step, explain, fingerprint_of
from dartvc.state.chunking import fingerprint
from dartvc.state.loading import LiveBuffers, Loading, load
from dartvc.state.saving import Refusal, Saved, Saving, save_unshared

__all__ = ["Bandwidth", "PlannedCell", "PlannedValue", "TransferPlan", "bandwidth_of", "lighten", "plan_transfer"]

ASSUMED_BYTES_PER_S = 12_500_000.0
_MEASURED_BYTES = 8 * 1024 * 1024
_AMOUNT = re.compile(r"([0-9.]+)\s*([kmg]?)(i?)(bit|b|byte|bytes)?(?:/s|ps)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes a second, and how they are known: given, measured or assumed."""

    bytes_per_s: float
    source: str


@dataclass(frozen=True, slots=True)
class PlannedValue:
    """One co-variable: what it costs either way in seconds (``compute_s`` None: it cannot be, for ``reason``), and which way it goes."""

    names: tuple[str, ...]
    size_bytes: int
    carry_s: float
    compute_s: float | None
    way: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell that is run again at the other side."""

    commit: Oid
    execution: int | None
    code: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What a transfer of one commit's state would do, and what it costs beside doing it all in one way."""

    commit: Oid
    bandwidth: Bandwidth
    values: tuple[PlannedValue, ...]
    cells: tuple[PlannedCell, ...]
    total_s: float
    all_carried_s: float
    all_computed_s: float
    carried_bytes: int
    all_bytes: int
    is_tried: bool


@dataclass
class _Draft:
    ancestry: Ancestry
    choice: Choice
    fingerprints: dict[tuple[int, tuple[str, ...]], str] = field(default_factory=dict)


def bandwidth_of(text: str, target: Path | None) -> Bandwidth:
    """Reads ``20MB/s`` or ``100Mbit/s``; without a text measures how fast a folder takes bytes, or assumes 100 Mbit/s.

    Raises:
        UsageError: it is no amount.
    """
    if text:
        found = _AMOUNT.fullmatch(text.strip())
        try:
            number = float(found[1]) if found is not None else 0.0
        except ValueError:
            number = 0.0
        if found is None or number <= 0:
            raise UsageError(f"{text!r} is no bandwidth", kind="bad-bandwidth", hint="--bandwidth 20MB/s, or 100Mbit/s")
        unit = (1024 if found[3] else 1000) ** " kmg".index((found[2] or " ").lower())
        return Bandwidth(number * unit / (8 if (found[4] or "").lower() == "bit" else 1), "given")
    if target is not None and target.is_dir() and os.access(target, os.W_OK):
        return Bandwidth(_measured(target), "measured")
    return Bandwidth(ASSUMED_BYTES_PER_S, "assumed")


def _measured(folder: Path) -> float:
    path = folder / f".dartvc-measure-{os.getpid()}"
    data = os.urandom(1024 * 1024)
    try:
        started = time.perf_counter()
        with open(path, "xb", buffering=0) as file:
            for _ in range(_MEASURED_BYTES // len(data)):
                file.write(data)
            os.fsync(file.fileno())
        return _MEASURED_BYTES / max(time.perf_counter() - started, 1e-6)
    except OSError:
        return ASSUMED_BYTES_PER_S
    finally:
        path.unlink(missing_ok=True)


def plan_transfer(repository: Repository, oid: Oid, bandwidth: Bandwidth, *, base: Oid | None = None) -> TransferPlan:
    """Plans the transfer of a commit's state; nothing is run.

    Args:
        repository: where it is.
        oid: the commit.
        bandwidth: what the way takes.
        base: a commit that the other side has.
    """
    return _describe(oid, bandwidth, _draft(repository, oid, bandwidth, base, {}), is_tried=False)


def lighten(
    repository: Repository, oid: Oid, bandwidth: Bandwidth, *, base: Oid | None = None, is_tried: bool = True
) -> tuple[Oid, TransferPlan]:
    """Writes a light commit: of the state of a commit what is cheaper to carry, and the plan that makes the rest.

    Args:
        repository: where it is.
        oid: the commit.
        bandwidth: what the way takes.
        base: a commit that the other side has; the light one follows it.
        is_tried: run the plan here first, and leave out only what comes out the same.

    Raises:
        UntrustedError: trying would run the code of somebody else.
        StorageError: the disk refused.
    """
    if is_tried and not repository.is_trusted(oid):
        raise UntrustedError(
            f"commit {oid[:8]} was made on another machine; trying its plan would run its code",
            kind="untrusted",
            hint="--no-try, or no --plan",
        )
    refused: dict[Oid, str] = {}
    while True:
        draft = _draft(repository, oid, bandwidth, base, refused)
        new = _try(repository, draft) if is_tried else _believe(repository, draft)
        if not new:
            break
        refused.update(new)
    plan = _describe(oid, bandwidth, draft, is_tried=is_tried)
    steps, _ = _steps(draft)
    reasons = {
        name: f"left out, computed here: {value.compute_s or 0:.2g} s instead of {value.carry_s:.2g} s for its {value.size_bytes} bytes"
        for value in plan.values
        if value.way == "compute"
        for name in value.names
    }
    versions = draft.ancestry.versions
    inputs = [versions[number].payload_oid for number in sorted(draft.choice.carried) if not versions[number].is_wanted]
    inputs += [stream for step in steps for stream in step.streams.values()]
    described = {"of": oid, "steps": [step.described() for step in steps]}
    made = write_light(repository, oid, reasons, described, list(dict.fromkeys(inputs)), (base,) if base is not None else ())
    return made, plan


def _draft(repository: Repository, oid: Oid, bandwidth: Bandwidth, base: Oid | None, refused: Mapping[Oid, str]) -> _Draft:
    there = {entry.payload_oid for entry in repository.names(base).values()} if base is not None else set()
    ancestry = read_ancestry(repository, oid, there=frozenset(filter(None, there)), refused=refused)
    return _Draft(ancestry, cheapest(ancestry.values(bandwidth.bytes_per_s), ancestry.makers()))


def _steps(draft: _Draft) -> tuple[list[Step], list[int]]:
    """Returns the steps of a plan, and the number of the cell that each one runs."""
    ancestry, choice = draft.ancestry, draft.choice
    order = sorted(choice.run)
    place = {cell: number for number, cell in enumerate(order)}
    needed = {each for cell in order for each in ancestry.cells[cell].inputs}
    steps = []
    for cell in order:
        facts = ancestry.cells[cell]
        carried, made = [], []
        for number in facts.inputs:
            version = ancestry.versions[number]
            if version.maker is not None and version.maker in place:
                made.append((place[version.maker], version.names))
            else:
                carried.append(version.payload_oid)
        outputs = {
            version.names: draft.fingerprints.get((cell, version.names), "")
            for number, version in enumerate(ancestry.versions)
            if version.maker == cell and (version.is_wanted or number in needed)
        }
        steps.append(Step(facts.code, facts.commit.oid, facts.seconds, tuple(carried), tuple(made), dict(facts.streams), outputs))
    return steps, order


def _try(repository: Repository, draft: _Draft) -> dict[Oid, str]:
    """Runs a plan; takes the fingerprints of what came out the same, and returns the cells of which something did not."""
    steps, order = _steps(draft)
    rebuilder = Rebuilder(repository, steps)
    refused: dict[Oid, str] = {}
    for number, (step, cell) in enumerate(zip(steps, order, strict=True)):
        if any(steps[before].commit in refused for before, _ in step.made):
            continue
        for group in step.outputs:
            try:
                saved = rebuilder.output(number, group)
            except Exception as error:
                refused[step.commit] = explain(error)
                break
            if not _is_same(repository, draft, cell, group, saved):
                refused[step.commit] = f"its cell makes another {', '.join(group)} each time"
                break
            draft.fingerprints[cell, group] = fingerprint_of(saved)
    return refused


def _believe(repository: Repository, draft: _Draft) -> dict[Oid, str]:
    """Takes the fingerprints of what is stored."""
    for version in draft.ancestry.versions:
        if version.maker is not None:
            draft.fingerprints[version.maker, version.names] = _stored_fingerprint(repository, version.payload_oid)
    return {}


def _stored_fingerprint(repository: Repository, payload_oid: Oid) -> str:
    payload = repository.payload(payload_oid)
    return fingerprint(payload.read_stream(), (chunk.digest for chunks in payload.buffers for chunk in chunks))


def _is_same(repository: Repository, draft: _Draft, cell: int, group: Collection[str], saved: Saved) -> bool:
    """Whether a value that was made again is what is stored, whichever of its immutable parts are one object."""
    version = next(each for each in draft.ancestry.versions if each.maker == cell and each.names == tuple(group))
    if fingerprint_of(saved) == _stored_fingerprint(repository, version.payload_oid):
        return True
    payload = repository.payload(version.payload_oid)
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    try:
        stored = load(payload.read_stream(), Loading(before, payload))
        remade = load(saved.stream, Loading(after, LiveBuffers(saved.buffers)))
        plain = [
            save_unshared({name: each[name] for name in group}, Saving(space, "__main__"))
            for each, space in ((stored, before), (remade, after))
        ]
    except Refusal:
        return False
    return plain[0].stream == plain[1].stream and plain[0].buffers == plain[1].buffers


def _describe(oid: Oid, bandwidth: Bandwidth, draft: _Draft, *, is_tried: bool) -> TransferPlan:
    ancestry, choice = draft.ancestry, draft.choice
    values, makers = ancestry.values(bandwidth.bytes_per_s), ancestry.makers()
    rows = []
    for number, version in enumerate(ancestry.versions):
        if not version.is_wanted and number not in choice.carried:
            continue
        seconds = ancestry.cells[version.maker].seconds if version.maker is not None else None
        is_there = version.payload_oid in ancestry.there
        way = "there" if is_there and number in choice.carried else "carry" if number in choice.carried else "compute"
        reason = version.reason if version.is_wanted else "an old value that a cell starts from"
        rows.append(PlannedValue(version.names, version.size_bytes, (values[number].carry_ns or 0) / 1e9, seconds, way, reason))
    rows.sort(key=lambda row: (-row.size_bytes, row.names))
    cells = tuple(
        PlannedCell(cell.commit.oid, cell.commit.execution, cell.code, cell.seconds)
        for cell in (ancestry.cells[number] for number in sorted(choice.run))
    )
    sizes: Sequence[int] = [row.size_bytes for row in rows if row.way == "carry"]
    return TransferPlan(
        oid, bandwidth, tuple(rows), cells, choice.cost_ns / 1e9, all_carried(values, makers).cost_ns / 1e9, all_remade(values, makers).cost_ns / 1e9,
        sum(sizes), sum(version.size_bytes for version in ancestry.versions if version.is_wanted and version.payload_oid not in ancestry.there), is_tried,
    )  # fmt: skip
