"""Git objects as bytes: their ids, trees and commits (gitformat-commit, git-mktree)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from dartvc.errors import CorruptError
from dartvc.model import Oid
from dartvc.model.records import NamedTuple

__all__ = [
    "BLOB",
    "COMMIT",
    "TAG",
    "TREE",
    "RawCommit",
    "TreeEntry",
    "decode_any_commit",
    "decode_commit",
    "decode_links",
    "decode_tree",
    "encode_commit",
    "encode_tree",
    "object_id",
]

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
KIND_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
TREE_MODE = 0o40000
_STAMP = re.compile(rb"^author .*> (\d+) ([+-])(\d\d)(\d\d)$", re.MULTILINE)
_HEAD = re.compile(r"tree ([0-9a-f]{40})\n((?:parent [0-9a-f]{40}\n)*)author [^\n]*> ([0-9]+) ([+-][0-9]{4})\n")
_OID = re.compile(rb"[0-9a-f]{40}\Z")


class TreeEntry(NamedTuple):
    """An entry of a tree: its git mode (0o100644 blob, 0o40000 tree) and the object."""

    mode: int
    oid: Oid


class RawCommit(NamedTuple):
    """A commit object as git has it; ``time_s`` in seconds since the epoch (git keeps whole ones)."""

    oid: Oid
    tree: Oid
    parents: tuple[Oid, ...]
    time_s: int
    utc_offset_min: int
    message: str


def object_id(kind: int, data: bytes | memoryview) -> bytes:
    """Returns the 20 bytes of an object's SHA-1."""
    view = memoryview(data)
    digest = hashlib.sha1(b"%s %d\0" % (KIND_NAMES[kind], view.nbytes), usedforsecurity=False)
    digest.update(view)
    return digest.digest()


def encode_tree(entries: Mapping[str, TreeEntry]) -> bytes:
    """Encodes a tree in git's order (directories sort as if their name ended in a slash)."""
    rows = []
    for name, entry in entries.items():
        raw = name.encode("utf-8", "surrogateescape")
        rows.append((raw + b"/" if entry.mode == TREE_MODE else raw, b"%o %s\0" % (entry.mode, raw) + bytes.fromhex(entry.oid)))
    rows.sort()
    return b"".join([row for _, row in rows])


def decode_tree(data: bytes, where: str) -> dict[str, TreeEntry]:
    """Decodes a tree.

    Raises:
        CorruptError: it is not a tree; ``where`` says which.
    """
    return dict(_rows(data, where))


def _rows(data: bytes, where: str) -> Iterator[tuple[str, TreeEntry]]:
    at, end = 0, len(data)
    try:
        while at < end:
            space = data.index(b" ", at)
            zero = data.index(b"\0", space)
            oid = data[zero + 1 : zero + 21].hex()
            if len(oid) != 40:
                raise ValueError("it ends early")
            yield data[space + 1 : zero].decode("utf-8", "surrogateescape"), TreeEntry(int(data[at:space], 8), Oid(oid))
            at = zero + 21
    except ValueError as error:
        raise CorruptError(f"tree {where} cannot be read: {error}", kind="tree", hint="dvc-state fsck") from error


def encode_commit(tree: Oid, parents: Iterable[Oid], message: str, time_s: float, utc_offset_min: int, author: str) -> bytes:
    """Encodes a commit; author and committer are the same."""
    sign = "-" if utc_offset_min < 0 else "+"
    hours, minutes = divmod(abs(utc_offset_min), 60)
    stamp = f"{author} {max(int(time_s), 0)} {sign}{hours:02d}{minutes:02d}"
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {stamp}", f"committer {stamp}", "", message]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def decode_commit(oid: Oid, data: bytes) -> RawCommit:
    """Decodes a commit.

    Raises:
        CorruptError: it is not a commit that git would write.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return decode_any_commit(oid, data)
    found = _HEAD.match(text)
    end = text.find("\n\n", found.end() - 1) if found is not None else -1
    if found is None or end < 0:
        return decode_any_commit(oid, data)
    # Fast path: a head as git writes it, taken apart by one match
    tree, links, seconds, zone = found.groups()
    parents = (links[7:47],) if len(links) == 48 else tuple([links[at : at + 40] for at in range(7, len(links), 48)])
    offset = int(zone[1:3]) * 60 + int(zone[3:])
    return RawCommit._make((oid, tree, parents, int(seconds), -offset if zone[0] == "-" else offset, text[end + 2 :]))


def decode_any_commit(oid: Oid, data: bytes) -> RawCommit:
    """Decodes a commit line by line, also one whose head has lines of its own between those that matter; raises what `decode_commit` does."""
    head, _, message = data.partition(b"\n\n")
    lines = head.split(b"\n")
    stamp = _STAMP.search(head)
    parents = tuple(Oid(line[7:].decode("ascii", "replace")) for line in lines[1:] if line.startswith(b"parent "))
    if not lines[0].startswith(b"tree ") or not _OID.match(lines[0][5:]) or stamp is None:
        raise CorruptError(f"commit {oid} cannot be read", kind="commit", hint="dvc-state fsck")
    offset = (int(stamp[3]) * 60 + int(stamp[4])) * (-1 if stamp[2] == b"-" else 1)
    return RawCommit(oid, Oid(lines[0][5:].decode()), parents, int(stamp[1]), offset, _text(message))


def decode_links(oid: Oid, data: bytes) -> tuple[tuple[Oid, ...], int]:
    """Returns (parents, time_s) of a commit.

    Fast path: what a walk needs of `decode_commit`.

    Raises:
        CorruptError: it is not a commit that git would write.
    """
    at = data.find(b"\n") + 1
    parents = []
    while data.startswith(b"parent ", at):
        parents.append(Oid(data[at + 7 : at + 47].decode("ascii", "replace")))
        at += 48
    try:
        return tuple(parents), int(data[at : data.index(b"\n", at)].rsplit(b" ", 2)[1])
    except (IndexError, ValueError):
        commit = decode_commit(oid, data)
        return commit.parents, commit.time_s


def _text(message: bytes) -> str:
    """Returns a message: UTF-8, with what Python allows in a str beyond it; another tool's bytes are replaced."""
    try:
        return message.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return message.decode("utf-8", "replace")
