"""What changed in a value between two commits, told from its two summaries and, for arrays, from raw chunks; nothing is unpickled.

`diff_summaries` gives a `NameDiff`: what happened to the name and a list of `Change`, only differences. `diff_arrays` counts exactly which elements
of an array differ, reading only chunks whose digests differ.
"""

from __future__ import annotations

from dartvc.state.value_diff.chunks import ArrayChunk, ArrayDiff, diff_arrays
from dartvc.state.value_diff.names import Change, DiffKind, NameDiff, diff_summaries, headline

__all__ = ["ArrayChunk", "ArrayDiff", "Change", "DiffKind", "NameDiff", "diff_arrays", "diff_summaries", "headline"]
