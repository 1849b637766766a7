"""What rewrites share: where the parts of a stack lie, how a call over a stack is made of calls over its parts, and the products of parts that are kept."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dartvc.lineage.deferring import Deferred, Transposed
from dartvc.lineage.growing import Grown
from dartvc.lineage.memory import Entry, Memory
from dartvc.model.records import NamedTuple

__all__ = ["Blocks", "CallRewrite", "Find", "PartCall", "Products", "Stacked", "are_floats", "untransposed"]


class Stacked(NamedTuple):
    """Where the parts of a stacked array lie: along which axis, their bounds, and which may be prefixes of a product that grows."""

    reference: weakref.ref[Any]
    axis: int
    bounds: tuple[int, ...]
    grown: tuple[Grown | None, ...] = ()


class Blocks(NamedTuple):
    """The parts of a stack, whether it was made or put off."""

    axis: int
    parts: list[Any]
    bounds: tuple[int, ...]
    grown: tuple[Grown | None, ...] = ()


Find = Callable[[Any], Blocks | None]


class PartCall(NamedTuple):
    """A call that can be assembled from its parts.

    Attributes:
        label: what is done to a part, with everything that it depends on but the part.
        blocks: the parts.
        compute: does it.
        merge: makes the result of what the parts gave, changing none of it.
        read_bytes: how much has to be read to recognise the parts.
        copied_bytes: how much is copied to assemble the result.
    """

    label: str
    blocks: Blocks
    compute: Callable[[Any], Any]
    merge: Callable[[list[Any]], Any]
    read_bytes: int
    copied_bytes: int = 0


class CallRewrite(Protocol):
    """One kind of call over stacks."""

    @property
    def names(self) -> frozenset[str]:
        """Returns the names of the functions and methods."""
        ...

    def match(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], find: Find) -> PartCall | None:
        """Returns how to assemble the call, or None when it is of another kind."""
        ...


class Products:
    """Products of parts, kept by content.

    Args:
        memory: where they are kept.
        digest: the fingerprint of one array.
    """

    def __init__(self, memory: Memory, digest: Callable[[Any], bytes]) -> None:
        self._memory = memory
        self._digest = digest
        self.hits = 0
        self.saved_s = 0.0

    def digest(self, part: Any) -> bytes:
        """Returns what a part is known by."""
        return self._digest(part)

    def transposed(self, left: Any, right: Any, left_digest: bytes, right_digest: bytes) -> Any:
        """Returns ``left.T @ right``, which is never changed by anybody."""
        return self._find(b"part" + left_digest + right_digest, left.T, right)

    def has(self, left_digest: bytes, right_digest: bytes) -> bool:
        """Whether ``left.T @ right`` is known."""
        return any(True for _ in self._memory.iter_entries(b"part" + left_digest + right_digest))

    def plain(self, left: Any, right: Any, left_digest: bytes, right_digest: bytes) -> Any:
        """Returns ``left @ right``, which is never changed by anybody."""
        return self._find(b"rows" + left_digest + right_digest, left, right)

    def assembled(self, call: PartCall) -> Any:
        """Returns what a call over a stack gives, from what it gives over the parts."""
        states = []
        for part in call.blocks.parts:
            key = f"call {call.label} ".encode() + self._digest(part)
            states.append(self.lazily(key, lambda part=part: call.compute(part)))  # type: ignore[misc]
        return call.merge(states)

    def counted(self, grown: Grown, product: Any) -> Any:
        """Returns what a product that grows gave, and counts its hits."""
        self.hits, grown.hits = self.hits + grown.hits, 0
        return product

    def _find(self, key: bytes, left: Any, right: Any) -> Any:
        def multiply() -> Any:
            product = left @ right
            return product.copy() if product.base is not None else product

        return self.lazily(key, multiply)

    def lazily(self, key: bytes, make: Callable[[], Any]) -> Any:
        """Returns what is kept under a key, else makes and keeps it; never changed by anybody."""
        for entry in self._memory.iter_entries(key):
            self._memory.note_use(entry)
            self.hits += 1
            self.saved_s += entry.cost_s
            return entry.holding
        begin = time.perf_counter()
        made = make()
        self._memory.add(key, Entry("@", made, _size_of(made), time.perf_counter() - begin))
        return made


def untransposed(left: Any) -> Any:
    """Returns X for a left operand X.T, else None."""
    if type(left) is Transposed:
        return left.of
    if type(left) is Deferred or left.ndim != 2 or left.base is None:
        return None
    base = left.base
    same = base.ndim == 2 and base.shape == left.shape[::-1] and base.strides == left.strides[::-1]
    return base if same and base.__array_interface__["data"] == left.__array_interface__["data"] else None


def are_floats(left: Any, right: Any) -> bool:
    """Whether both operands are of one type of at least eight bytes, so that sums in another order differ in the last bits only."""
    return bool(left.dtype == right.dtype and left.dtype.kind == "f" and left.dtype.itemsize >= 8)


def _size_of(made: Any) -> int:
    """Returns about how many bytes a result takes."""
    if isinstance(made, tuple):
        return sum(map(_size_of, made))
    return int(made.memory_usage(deep=True).sum()) if hasattr(made, "columns") else int(getattr(made, "nbytes", 64))
