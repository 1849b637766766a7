"""Which kind of peer an address has."""

from __future__ import annotations

from dartvc.history import Repository
from dartvc.remotes.addresses import Address
from dartvc.remotes.byprogram import GitPeer
from dartvc.remotes.exchange import Peer
from dartvc.remotes.local import LocalPeer

__all__ = ["peer_at"]


def peer_at(address: Address, repository: Repository) -> Peer:
    """Returns the repository at an address; ``repository`` is ours.

    Raises:
        RemoteError: the address is a path and there is no repository.
    """
    if address.path is not None and not address.is_bundle:
        return LocalPeer(address.path)
    return GitPeer(address, repository)
