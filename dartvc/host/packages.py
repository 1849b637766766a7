"""Which version of a package is installed, without importing the package or reading what is installed beside it."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
from collections.abc import Iterator, Sequence

__all__ = ["distributions", "installed_version"]

_SUFFIX = ".dist-info"


def installed_version(package: str) -> str:
    """Returns the version of the distribution that brought a package, as ``importlib.metadata`` has it; empty when that is not known.

    Args:
        package: a top-level name that can be imported.
    """
    return _beside(package) or _version_by_metadata(package)


def _beside(package: str) -> str:
    """Fast path: the version that stands in the ``dist-info`` folder beside a package; empty when none is the package's.

    Reading the metadata of all distributions, and loading what parses them, takes ten to a hundred times as long.
    """
    spec = importlib.util.find_spec(package)
    found = spec.submodule_search_locations if spec is not None else None
    place = next(iter(found)) if found else spec.origin if spec is not None else None
    folder = os.path.dirname(place) if place else ""
    infos = distributions(folder)
    named = (info for info in infos if os.path.basename(info).partition("-")[0].lower() == package.lower())
    return next((version for info in itertools.chain(named, _bringing(infos, package)) if (version := _version(info))), "")


def _bringing(infos: Sequence[str], package: str) -> Iterator[str]:
    """Yields the distributions that say, or whose lists of files show, that they brought a package."""
    for info in infos:
        declared = _read(os.path.join(info, "top_level.txt")).split()
        if package in declared or (not declared and f"\n{package}/__init__.py," in "\n" + _read(os.path.join(info, "RECORD"))):
            yield info


@functools.cache
def distributions(folder: str) -> Sequence[str]:
    """Returns the ``dist-info`` folders in a folder of ``sys.path``; each has the name and the version of a distribution in its own name (PEP 376)."""
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(_SUFFIX)]
    except OSError:
        return []


def _version(info: str) -> str:
    """Returns the version in the head of a distribution's metadata (PEP 566), unfolded."""
    head = _read(os.path.join(info, "METADATA")).partition("\n\n")[0]
    return next((line.partition(":")[2].strip() for line in head.splitlines() if line.lower().startswith("version:")), "")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _version_by_metadata(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        found = _packages_distributions().get(package, [])
        return metadata.version(found[0]) if found else ""


@functools.cache
def _packages_distributions() -> dict[str, list[str]]:
    """Returns which distributions brought each package: one look at all that are installed."""
    from importlib import metadata

    return {name: list(distributions) for name, distributions in metadata.packages_distributions().items()}
