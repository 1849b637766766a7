"""Names of a package that load when they are first used: a command that only looks must not wait for what writes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

__all__ = ["lazily"]


def lazily(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """Returns the ``__getattr__`` (PEP 562) of a package, which loads a name from its module when it is first asked for.

    Args:
        package: its ``__name__``.
        modules: by module the names that the package hands on from it.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return load
