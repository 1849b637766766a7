"""Identities of stored things."""

from __future__ import annotations

from typing import NewType

__all__ = ["Digest", "Oid", "short"]

Oid = NewType("Oid", str)
"""A git object id: 40 lower-case hexadecimal digits (SHA-1, gitformat-index)."""

Digest = NewType("Digest", bytes)
"""xxh3_128 of a chunk's bytes: 16 bytes, big-endian as `xxhash.xxh3_128_digest` gives them."""


def short(oid: Oid | str) -> str:
    """Returns the first eight digits of an id, for people."""
    return oid[:8]
