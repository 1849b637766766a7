"""What an exchange did, or would do, to each ref; which refs travel; and what a repository at an address can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dartvc.history import RefMove, Repository
from dartvc.model import Oid

__all__ = ["TRAVELLING", "WENT_APART", "Advertisement", "Exchange", "Incoming", "Peer", "RefUpdate", "Sent", "UpdateKind"]

TRAVELLING = ("refs/heads/", "refs/tags/", "refs/runs/", "refs/logs/")
"""Refs that are exchanged. Tracking refs (``refs/remotes/``) and what is one user's own (``refs/dartvc/``: the stash) stay where they are."""

WENT_APART = "it went on here and there, the branches have both; --force puts one in the other's place"


class UpdateKind(StrEnum):
    """What happened to a ref."""

    NEW = "new"
    FAST_FORWARD = "fast-forward"
    FORCED = "forced"
    DELETED = "deleted"
    UP_TO_DATE = "up to date"
    KEPT = "kept"
    """A run that went on here and there, and only goes along with branches: these have all of its commits, each side's name stays at its own."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One ref of an exchange: its name at the side that sends and at the side that receives, and why it was rejected."""

    kind: UpdateKind
    source: str
    target: str
    old: Oid | None
    new: Oid | None
    reason: str = ""

    @property
    def is_change(self) -> bool:
        """Whether the ref moved."""
        return self.kind not in (UpdateKind.UP_TO_DATE, UpdateKind.KEPT, UpdateKind.REJECTED)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a fetch or a push did.

    ``objects`` and ``size_bytes`` are what travelled; -1 where the git program did it and does not tell.
    """

    remote: str
    url: str
    updates: tuple[RefUpdate, ...] = ()
    objects: int = 0
    size_bytes: int = 0
    messages: tuple[str, ...] = ()

    @property
    def rejected(self) -> tuple[RefUpdate, ...]:
        """The refs that were not moved, to protect what is there."""
        return tuple(update for update in self.updates if update.kind is UpdateKind.REJECTED)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a repository offers: its travelling refs (peeled to commits), and the branch that its HEAD stands for."""

    refs: Mapping[str, Oid]
    head: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a push took along: objects and bytes as in `Exchange`, and what the other side said."""

    objects: int = -1
    size_bytes: int = -1
    messages: tuple[str, ...] = ()


class Incoming(Protocol):
    """Objects that arrived and lie aside, verified and durable."""

    @property
    def refs(self) -> Mapping[str, Oid]:
        """Where the sender's refs are, peeled to commits."""
        ...

    @property
    def objects(self) -> int:
        """How many objects arrived; -1: unknown."""
        ...

    @property
    def size_bytes(self) -> int:
        """Their bytes as they are stored; -1: unknown."""
        ...

    def admit(self) -> None:
        """Makes them visible to the receiving repository, durably."""
        ...


class Peer(Protocol):
    """The repository at an address."""

    def advertise(self) -> Advertisement:
        """Asks for refs.

        Raises:
            RemoteError: it cannot be reached, or is no repository.
        """
        ...

    def receive(self, into: Repository, names: Sequence[str] | None) -> AbstractContextManager[Incoming]:
        """Brings everything that refs (None: all that travel) need and the receiver lacks; it lies aside for as long as the context lasts.

        Raises:
            NotFoundError: it has no such ref.
            RemoteError: it cannot be reached, or what it sends is damaged.
        """
        ...

    def send(self, source: Repository, moves: Sequence[RefMove]) -> Sent:
        """Gives it what the commits in ``moves`` need, then moves its refs, all or none, if each is where ``old`` says.

        Raises:
            RemoteError: it cannot be reached, or refused.
            RefConflictError: one of its refs has moved meanwhile.
        """
        ...
