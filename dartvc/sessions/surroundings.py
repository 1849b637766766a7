"""What a program is continued on, beside what it ran on: differences are named, and refused where they make the result meaningless."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping

from dartvc.history.environment import compare_environments, describe_host
from dartvc.host.packages import installed_version
from dartvc.model.records import NamedTuple

__all__ = ["Verdict", "judge"]

_OWN = frozenset({"dartvc", "pygit2", "dill", "xxhash", "cffi"})
_WORDS = {
    "python": "Python {0} there, {1} here",
    "implementation": "the Python was {0}, here it is {1}",
    "platform": "recorded on {0}, this is {1}",
    "machine": "recorded on a {0} machine, this is {1}",
    "cpu": "the processor was {0}, here it is {1}",
    "cpus": "{0} processors there, {1} here",
}


class Verdict(NamedTuple):
    """What differs, as sentences; ``obstacles`` are what forbids to go on, ``can_be_forced`` whether somebody may say otherwise."""

    differences: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    can_be_forced: bool = True
    remedy: str = ""


def judge(recorded: Mapping[str, object], sources: Iterable[str], *, has_position: bool) -> Verdict:
    """Compares a recorded environment with the present one.

    Positions and code belong to one minor version of one Python: elsewhere only a run's beginning can be continued. A package that the
    program imports and that is not here is an obstacle, one of another version a difference.

    Args:
        recorded: `Repository.environment` of the commit.
        sources: the texts of the program.
        has_position: whether it goes on in the middle.
    """
    present = _present(recorded)
    differences: list[str] = []
    obstacles: list[str] = []
    for what, before, after in compare_environments(recorded, present):
        if what == "gpus":
            differences.append(f"graphics processors: {_listed(before)} there, {_listed(after)} here")
        else:
            differences.append(_WORDS.get(what, f"{what} {{0}} there, {{1}} here").format(before, after))
    is_other_python = _minor(recorded.get("python")) not in ("", _minor(present.get("python")))
    is_other_kind = recorded.get("implementation") not in (None, present.get("implementation"))
    if has_position and (is_other_python or is_other_kind):
        there = f"{recorded.get('implementation', 'Python')} {_minor(recorded.get('python'))}"
        obstacles.append(
            f"the program stands in the middle of code of {there}, which this Python {_minor(present.get('python'))} does not run"
        )
    can_be_forced = not obstacles
    missing = [name for name in _packages(recorded) if name not in _OWN and not _is_here(name)]
    imported = _imports(sources) if missing else frozenset()
    for name in missing:
        text = f"the package {name} {_packages(recorded)[name]} is not installed here"
        (obstacles if name in imported else differences).append(text)
    remedy = f"resume it with Python {_minor(recorded.get('python'))}"
    return Verdict(tuple(differences), tuple(obstacles), can_be_forced, remedy)


def _present(recorded: Mapping[str, object]) -> dict[str, object]:
    """Returns the present environment with the versions of the recorded packages, as far as they are here; none is imported."""
    present = describe_host()
    packages = {name: _version(name, str(version)) for name, version in _packages(recorded).items() if name not in _OWN and _is_here(name)}
    present["packages"] = {name: version for name, version in packages.items() if version}
    return present


def _packages(environment: Mapping[str, object]) -> Mapping[str, object]:
    packages = environment.get("packages")
    return packages if isinstance(packages, dict) else {}


def _is_here(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _version(name: str, recorded: str) -> str:
    """Returns what a package would say as ``__version__``; empty when that is not known without importing it."""
    version = getattr(sys.modules.get(name), "__version__", None)
    if isinstance(version, str):
        return version
    installed = installed_version(name)
    return recorded if installed == recorded.partition("+")[0] else installed  # how it was built (2.13.0+cpu) stands in the package alone


def _minor(version: object) -> str:
    return ".".join(str(version).split(".")[:2]) if version else ""


def _listed(models: object) -> str:
    return ", ".join(map(str, models)) if isinstance(models, list | tuple) and models else "none"


def _imports(sources: Iterable[str]) -> frozenset[str]:
    """Returns the top-level names that a program imports, anywhere in its code."""
    import ast

    names: set[str] = set()
    for text in sources:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return frozenset(names)
