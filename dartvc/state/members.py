"""What of a co-variable changed: it is stored as one, and its names are told apart by what each of them leads to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from xxhash import xxh3_128_digest

from dartvc.model import Summary
from dartvc.state.pickled import Unreadable, content_digest, read_pickle
from dartvc.state.sets import TABLES
from dartvc.state.strings import STRINGS

__all__ = ["SMALL_STREAM_BYTES", "digest_members", "digest_summaries", "unchanged_members"]

SMALL_STREAM_BYTES = 8 * 1024
"""A longer stream is not read for its members: their summaries have to tell."""

_OF_SUMMARY = b"~"
_FOREIGN_BYTES = 4


def digest_members(stream: bytes, buffers: Sequence[Sequence[bytes]]) -> dict[str, bytes]:
    """Returns a digest of what each name of a co-variable leads to, read from its stream."""
    try:
        members = read_pickle(stream).pairs()
        foreign = int.from_bytes(stream[-_FOREIGN_BYTES:], "little")
        return {name: content_digest(value, buffers, foreign=foreign) for name, value in members.items() if name not in (STRINGS, TABLES)}
    except (Unreadable, ValueError):
        return {}


def digest_summaries(summaries: Mapping[str, Summary]) -> dict[str, bytes]:
    """Returns a digest of what people are told of each name of a co-variable, in place of that of its contents."""
    return {name: _OF_SUMMARY + xxh3_128_digest(repr(summary).encode("utf-8", "surrogatepass")) for name, summary in summaries.items()}


def unchanged_members(before: Mapping[str, bytes], now: Mapping[str, bytes], present: Collection[str]) -> frozenset[str]:
    """Returns the names that are stored anew only because they are stored together with others.

    Summaries tell only where another name's says that it was that one: of something too small for any of them every name is changed.
    """
    same = frozenset(name for name in present if name in now and before.get(name) == now[name])
    by_summary = any(now[name].startswith(_OF_SUMMARY) and len(now[name]) > 16 for name in same)
    return frozenset() if by_summary and len(same) == len(present) else same
