"""Exchange with other repositories: over a path by ourselves, over ssh and https by the ``git`` program, through bundle files.

An exchange has two steps. Objects come first: verified against their ids, durable, but lying aside. Then, under the receiver's lock, they
become visible and the refs move, by compare-and-swap, with one entry in the operation log. A kill at any moment leaves both sides whole.
Nothing here loads a value, runs a hook, or lets git read the configuration of a repository that somebody else may have written.
The main types are `Remote` (a name for an address) and `Peer` (the repository at that address).
"""

from __future__ import annotations

from dartvc.remotes.addresses import Address, parse_address
from dartvc.remotes.cloning import clone
from dartvc.remotes.exchange import Exchange, RefUpdate, UpdateKind
from dartvc.remotes.fetching import fetch
from dartvc.remotes.negotiation import Divergence, divergence_of, is_ancestor
from dartvc.remotes.pushing import push
from dartvc.remotes.registry import Remote, Remotes

__all__ = [
    "Address",
    "Divergence",
    "Exchange",
    "RefUpdate",
    "Remote",
    "Remotes",
    "UpdateKind",
    "clone",
    "divergence_of",
    "fetch",
    "is_ancestor",
    "parse_address",
    "push",
]
