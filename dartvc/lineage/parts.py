"""What rewrites share: where the parts of a stack lie, and how a call over a stack is made of calls over its parts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dartvc.lineage.growing import Grown
from dartvc.model.records import NamedTuple

__all__ = ["Blocks", "CallRewrite", "Find", "PartCall", "Stacked"]


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
