"""What changed in a value between two commits, told from its two summaries and, for arrays, from raw chunks; nothing is unpickled.

`diff_summaries` gives a `NameDiff`: what happened to the name and a list of `Change`, only differences. `diff_arrays` counts exactly which elements
of an array differ, reading only chunks whose digests differ. `read_pickle` reads a pickle's words as plain nodes, in which `diff_elements` finds
arrays and tables and `diff_contents` items, attributes and lines.
"""

from __future__ import annotations

from dartvc.state.pickled import Node, Unreadable, content_digest, read_pickle
from dartvc.state.value_diff.chunks import ArrayChunk, ArrayDiff, diff_arrays
from dartvc.state.value_diff.contents import diff_contents
from dartvc.state.value_diff.names import Change, DiffKind, NameDiff, diff_summaries, headline
from dartvc.state.value_diff.tables import Contents, diff_elements

__all__ = [
    "ArrayChunk",
    "ArrayDiff",
    "Change",
    "Contents",
    "DiffKind",
    "NameDiff",
    "Node",
    "Unreadable",
    "content_digest",
    "diff_arrays",
    "diff_contents",
    "diff_elements",
    "diff_summaries",
    "headline",
    "read_pickle",
]
