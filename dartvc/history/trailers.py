"""The message of a commit: the user's text, then a last paragraph of trailers that opens with ``Dvc-State: 1``.

``log`` reads commit objects only, so everything it shows is here. The text is free: it may have blank lines and lines that look
like trailers, because only the last paragraph that opens with the fixed line counts and no trailer's value can contain a line break.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

from dartvc.history.quoting import quote_line, quote_words, unquote, unquote_words
from dartvc.model import Commit, CommitKind, Oid, Position

if TYPE_CHECKING:
    from dartvc.model import StagedCommit
    from dartvc.store import RawCommit

__all__ = ["OPENING", "commit_of_message", "commit_of_raw", "is_code_in_message", "message_of", "seal_payload", "split_seal", "with_changes"]

OPENING = "Dvc-State: 1"
_OPENING_PARAGRAPH = f"\n\n{OPENING}\n"
_SEAL_LINE = "\nSeal: "
_KEYS = (
    "Kind", "Added", "Modified", "Removed", "Omitted", "Run", "Position", "Execution", "Bytes", "Stall-Ms", "Duration-Ms", "Error", "Approximate",
    "Time", "Message", "Seal",
)  # fmt: skip
_WRITTEN = re.compile("".join(f"(?:{key}: (.*)\n)?" for key in _KEYS) + r"\n*\Z")
_KINDS = {kind.value: kind for kind in CommitKind}


def is_code_in_message(staged: StagedCommit) -> bool:
    """Whether the message of a commit to be written is its code: a cell of one line. It needs no blob then."""
    return staged.kind is CommitKind.CELL and not staged.message and staged.code == _first_line(staged.code) != ""


def message_of(staged: StagedCommit, size_bytes: int) -> str:
    """Returns the message of a commit to be written, without its seal.

    Args:
        staged: what the commit records.
        size_bytes: the new bytes that it stores.
    """
    text = staged.message or _first_line(staged.code)
    lines = [OPENING, f"Kind: {staged.kind.value}"]
    added = frozenset(staged.added)
    modified = [changed.name for changed in staged.changed if changed.name not in added and not changed.is_same]
    omitted = [changed.name for changed in staged.changed if changed.payload is None]
    for key, all_names in (("Added", staged.added), ("Modified", modified), ("Removed", staged.removed), ("Omitted", omitted)):
        names = [name for name in all_names if "._." not in name]  # values of a program's stack are not the user's
        if names:
            lines.append(f"{key}: {quote_words(list(names))}")
    if staged.run:
        lines.append(f"Run: {quote_line(staged.run)}")
    if staged.position is not None:
        import json

        place = staged.position
        lines.append(f"Position: {quote_line(json.dumps([place.file, place.line, place.function, place.stack]))}")
    if staged.execution is not None:
        lines.append(f"Execution: {staged.execution}")
    lines.append(f"Bytes: {size_bytes}")
    lines.append(f"Stall-Ms: {staged.stall_ms:g}")
    lines.append(f"Duration-Ms: {staged.duration_ms:g}")
    if staged.error:
        lines.append(f"Error: {quote_line(staged.error)}")
    if staged.approximate:
        lines.append(f"Approximate: {staged.approximate}")
    lines.append(f"Time: {staged.time_s:.6f} {staged.utc_offset_min}")
    plain = _plain_text(text)
    if plain != text:
        lines.append(f"Message: {quote_line(text)}")
    return plain + "\n\n" + "\n".join(lines)


def seal_payload(tree: Oid, parents: tuple[Oid, ...], time_s: float, utc_offset_min: int, message: str) -> bytes:
    """Returns the bytes that a seal is made over: everything of a commit but the seal."""
    head = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"time {int(time_s)} {utc_offset_min}", "", message]
    return "\n".join(head).encode("utf-8", "surrogatepass")


def split_seal(message: str) -> tuple[str, str]:
    """Takes the seal off a message; returns (message without it, seal or an empty string)."""
    at = message.rfind(_SEAL_LINE)
    if at < 0 or "\n" in message[at + len(_SEAL_LINE) :].rstrip("\n"):
        return message, ""
    return message[:at], message[at + len(_SEAL_LINE) :].strip()


def commit_of_raw(raw: RawCommit) -> Commit:
    """Reads a commit from what git knows of it."""
    oid, tree, parents, time_s, utc_offset_min, message = raw
    return commit_of_message(oid, tree, parents, message, time_s, utc_offset_min)


def commit_of_message(oid: Oid, tree: Oid, parents: tuple[Oid, ...], message: str, time_s: float, utc_offset_min: int) -> Commit:
    """Reads a commit from its message. A commit that somebody else's git made has no trailers and counts as manual."""
    at = message.rfind(_OPENING_PARAGRAPH)
    # Fast path: trailers in the order in which `message_of` writes them, taken apart by one match
    found = _WRITTEN.match(message + "\n", at + len(_OPENING_PARAGRAPH)) if at >= 0 else None
    text, values = (message[:at], found.groups()) if found is not None else _split(message)
    (
        kind, added, modified, removed, omitted, run, position, execution, size_bytes, stall_ms, duration_ms, error, approximate, time, whole, seal,
    ) = values  # fmt: skip
    return Commit._make(
        (
            oid,
            tree,
            parents,
            text if whole is None else unquote(whole),
            _time_of(time or "", time_s, utc_offset_min),
            _KINDS.get(kind or "", CommitKind.MANUAL),
            unquote_words(added) if added else (),
            unquote_words(modified) if modified else (),
            unquote_words(removed) if removed else (),
            unquote_words(omitted) if omitted else (),
            unquote(run) if run else "",
            _position_of(position) if position else None,
            _integer(execution) if execution is not None else None,
            _integer(size_bytes),
            _number(stall_ms),
            _number(duration_ms),
            unquote(error) if error else "",
            seal.strip() if seal else "",
            (),
            _integer(approximate),
        )
    )


def with_changes(message: str, commit: Commit) -> str:
    """Returns a message (without its seal) whose lists of added, modified and removed names are those of ``commit``."""
    at = message.rfind(_OPENING_PARAGRAPH)
    if at < 0:
        return message
    head, lines = message[: at + 2], message[at + 2 :].split("\n")
    rest = [line for line in lines[1:] if line.partition(": ")[0] not in ("Added", "Modified", "Removed")]
    lists = (("Added", commit.added), ("Modified", commit.modified), ("Removed", commit.removed))
    changes = [f"{key}: {quote_words(list(names))}" for key, names in lists if names]
    return head + "\n".join([lines[0], *changes, *rest])


def _plain_text(text: str) -> str:
    """Returns the text as a commit object can hold it: UTF-8, no NUL, no leading line breaks, no carriage returns."""
    if text and text[0] != "\n" and text.isascii() and "\0" not in text and "\r" not in text:
        return text
    kept = text.replace("\0", "").replace("\r", "").lstrip("\n").encode("utf-8", "replace").decode("utf-8")
    return kept or "(no message)"


def _first_line(code: str) -> str:
    return next((line.strip() for line in code.splitlines() if line.strip()), "")


def _split(message: str) -> tuple[str, Sequence[str | None]]:
    """Takes a message apart that was not written as it is now: the user's text, the values of `_KEYS`. Without trailers the text is all of it."""
    body, seal = split_seal(message)
    at = body.rfind(_OPENING_PARAGRAPH)
    lines = body[at + len(_OPENING_PARAGRAPH) :].split("\n") if at >= 0 else []
    fields = dict([line.split(": ", 1) for line in lines if ": " in line])
    if not fields:
        return message.rstrip("\n"), [None] * len(_KEYS)
    return body[:at], [*map(fields.get, _KEYS[:-1]), seal]


def _time_of(recorded: str, time_s: float, utc_offset_min: int) -> datetime:
    seconds, _, offset = recorded.partition(" ")
    exact = _number(seconds)
    try:
        if int(exact) != int(time_s):  # a commit whose header was rewritten by another tool: the header counts
            exact = time_s
        return datetime.fromtimestamp(exact, _zone(_integer(offset) if offset else utc_offset_min))
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


@lru_cache(maxsize=64)
def _zone(utc_offset_min: int) -> timezone:
    return timezone(timedelta(minutes=utc_offset_min))


def _position_of(value: str) -> Position | None:
    if not value:
        return None
    import json

    try:
        file, line, function, stack = json.loads(unquote(value))
    except ValueError:
        return None
    return Position(str(file), int(line), str(function), str(stack))


def _integer(value: str | None) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _number(value: str | None) -> float:
    try:
        return float(value or 0.0)
    except ValueError:
        return 0.0
