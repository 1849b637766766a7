"""Loose objects, which git and libgit2 write into a repository on push or commit (gitformat-loose).

Read by ourselves: libgit2 1.9 never returns from some truncated ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from dartvc.errors import CorruptError
from dartvc.store.objects import KIND_NAMES

__all__ = ["iter_loose", "read_loose"]

_KINDS = {name: kind for kind, name in KIND_NAMES.items()}


def read_loose(objects: Path, oid: str) -> tuple[int, bytes] | None:
    """Returns (kind, data) of a loose object, None when there is none; the id is not verified.

    Raises:
        CorruptError: its file is not what was written.
    """
    path = objects / oid[:2] / oid[2:]
    try:
        packed = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(packed)
        head, _, data = content.partition(b"\0")
        name, _, size = head.partition(b" ")
        if inflater.eof and name in _KINDS and int(size) == len(data):
            return _KINDS[name], data
    except (zlib.error, ValueError):
        pass
    raise CorruptError(f"object {oid} in {path} is damaged", kind="object", hint="dvc-state fsck")


def iter_loose(objects: Path, prefix: str = "") -> Iterator[str]:
    """Yields the ids of the loose objects, those that begin with ``prefix`` (none, or two digits and more)."""
    for folder in sorted(objects.glob(f"{prefix[:2]}" if prefix else "[0-9a-f][0-9a-f]")):
        for file in sorted(folder.glob(f"{prefix[2:]}*")):
            if len(file.name) == 38 and all(letter in "0123456789abcdef" for letter in file.name):
                yield folder.name + file.name
