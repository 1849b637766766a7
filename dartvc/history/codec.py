"""A commit's message: what people wrote, then trailers that carry all that `log` needs (docs/format.md).

The trailers are the message's last paragraph and begin with ``Dvc-State: 1``. Lists of names are JSON arrays, so that every name that
Python allows survives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from dartvc.model import Commit, CommitKind, Oid, Position, StagedCommit
from dartvc.store import RawCommit

__all__ = ["decode_commit", "encode_message", "path_of_name", "sealed_payload"]

_MARK = "Dvc-State: 1"
_LISTS = (("Added", "added"), ("Modified", "modified"), ("Removed", "removed"), ("Omitted", "omitted"))


def encode_message(staged: StagedCommit, modified: Sequence[str], size_bytes: int) -> str:
    """Returns a commit's message without its seal."""
    lines = [_MARK, f"Kind: {staged.kind}"]
    omitted = [name.name for name in staged.changed if name.omission is not None]
    for key, names in (("Added", staged.added), ("Modified", modified), ("Removed", staged.removed), ("Omitted", omitted)):
        if names:
            lines.append(f"{key}: {json.dumps(list(names), ensure_ascii=False)}")
    if staged.run:
        lines.append(f"Run: {staged.run}")
    if staged.position is not None:
        where = [staged.position.file, staged.position.line, staged.position.function]
        lines.append(f"Position: {json.dumps(where, ensure_ascii=False)}")
    if staged.execution is not None:
        lines.append(f"Execution: {staged.execution}")
    if staged.error:
        lines.append(f"Error: {json.dumps(staged.error, ensure_ascii=False)}")
    lines.append(f"Bytes: {size_bytes}")
    lines.append(f"Time: {staged.time_s:.6f} {staged.stall_ms:.2f} {staged.duration_ms:.2f}")
    text = staged.message.strip() or _first_line(staged.code) or str(staged.kind)
    return f"{text}\n\n" + "\n".join(lines)


def _first_line(code: str) -> str:
    for line in code.splitlines():
        if line.strip():
            return line.strip()[:120]
    return ""


def sealed_payload(tree: Oid, parents: Sequence[Oid], message: str) -> bytes:
    """Returns the bytes that a commit's seal covers: everything of it but the seal."""
    return "\n".join([tree, *parents, message]).encode("utf-8", "surrogatepass")


def decode_commit(raw: RawCommit) -> Commit:
    """Returns a commit from its object alone. Commits that git or others made come without our trailers."""
    text, _, tail = raw.message.rpartition("\n\n" + _MARK + "\n")
    zone = timezone(timedelta(minutes=raw.utc_offset_min))
    if not text:
        moment = datetime.fromtimestamp(raw.time_s, zone)
        return Commit(raw.oid, raw.tree, raw.parents, raw.message.strip(), moment, CommitKind.MANUAL)
    found = dict(line.partition(": ")[::2] for line in tail.split("\n"))
    lists = {field: tuple(json.loads(found[key])) if key in found else () for key, field in _LISTS}
    time_s, stall_ms, duration_ms = (float(part) for part in found.get("Time", f"{raw.time_s} 0 0").split())
    position = None
    if "Position" in found:
        file, line, function = json.loads(found["Position"])
        position = Position(file, line, function)
    kind = found.get("Kind", "manual")
    return Commit(
        oid=raw.oid,
        tree=raw.tree,
        parents=raw.parents,
        message=text,
        time=datetime.fromtimestamp(time_s, zone),
        kind=CommitKind(kind) if kind in CommitKind else CommitKind.MANUAL,
        run=found.get("Run", ""),
        position=position,
        execution=int(found["Execution"]) if "Execution" in found else None,
        size_bytes=int(found.get("Bytes", 0)),
        stall_ms=stall_ms,
        duration_ms=duration_ms,
        error=json.loads(found["Error"]) if "Error" in found else "",
        seal=found.get("Seal", ""),
        **lists,
    )


def path_of_name(name: str) -> str:
    """Returns a name as a tree entry: percent-encoded where git does not allow it."""
    if name.isidentifier() or (name.replace(".", "a").replace("-", "a").isalnum() and name[0] != "."):
        return name
    return "".join(char if char.isalnum() or char in "_-." and char != "." else "".join(f"%{byte:02x}" for byte in char.encode()) for char in name)
