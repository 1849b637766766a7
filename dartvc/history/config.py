"""Settings, in the repository's own git config: ``git config`` and ``dvc-state config`` read and write the same lines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from dartvc.errors import CorruptError, NotFoundError, UsageError
from dartvc.history.gitconfig import parse_config
from dartvc.host.entropy import new_id
from dartvc.store.durable import replace_file, storage_errors
from dartvc.store.locks import RepositoryLock

__all__ = ["CACHE_POLICIES", "SETTINGS", "Config", "parse_best", "parse_count", "parse_duration_s", "parse_percent", "parse_size"]

CACHE_POLICIES = ("cost-and-size", "lru", "dag-height", "hybrid")
SETTINGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "dartvc.author": ("", "Name <address> of the commits; empty: the user's name on this machine"),
        "dartvc.keepLast": ("1000", "retention: the last N automatic commits of each branch are kept"),
        "dartvc.keepWithin": ("7d", "retention: automatic commits younger than this are kept (30m, 12h, 7d, 4w)"),
        "dartvc.keepBest": ("", "retention: max:NAME:K or min:NAME:K keeps the K commits with the best value of NAME"),
        "dartvc.undoWindow": ("30d", "what operations younger than this need is kept by gc"),
        "dartvc.gracePeriod": ("1h", "gc keeps unreachable objects younger than this"),
        "dartvc.maxOverhead": ("1", "percent of its time that a run's automatic commits may cost"),
        "dartvc.every": ("0s", "a run commits so often, whatever it costs (30s, 10m); 0s: as often as dartvc.maxOverhead allows"),
        "dartvc.minFree": ("1G", "automatic commits of runs wait while less of the disk is free, or 5 % of a small one"),
        "core.pager": ("", "what long output is read in, on a terminal; empty: $PAGER, else less; cat: none"),
        "dartvc.cachePolicy": ("cost-and-size", f"which results for reuse go first: {', '.join(CACHE_POLICIES)}"),
        "dartvc.cacheMemory": ("25%", "what results for reuse may take of the memory that is free at the start: 25%, 500M, 4G"),
        "dartvc.cacheSize": ("8G", "what results for reuse may take in the repository"),
    }
)
"""Every setting: its default and what it means."""

_LOCK_TIMEOUT_S = 10.0
_UNITS_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BEST = re.compile(r"(?P<way>max|min):(?P<name>[^\s:]+)(?::\s*|\s+)(?P<count>\d+)")
_SECTIONS_OF_GIT = frozenset(
    (
        "branch", "color", "core", "credential", "extensions", "fetch", "gc", "gpg", "http", "https",
        "include", "includeif", "index", "init", "log", "merge", "pack", "protocol", "pull", "push",
        "receive", "remote", "safe", "ssh", "transfer", "uploadpack", "url", "user",
    )
)  # fmt: skip
"""Sections that git itself reads: their keys are its own to judge."""


class Config:
    """The settings of one repository; unset ones have their default."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = RepositoryLock(path.with_name("config.editing"))

    def get(self, key: str, default: str | None = None) -> str:
        """Returns a setting (keys are case-insensitive, as in git).

        Raises:
            NotFoundError: it is not set and has no default.
        """
        value = self._read().get(_folded(key))
        if value is not None:
            return value
        if default is not None:
            return default
        known = {name.lower(): text for name, (text, _) in SETTINGS.items()}
        if key.lower() not in known:
            raise NotFoundError(f"there is no setting {key!r}", kind="unknown-setting", hint="dvc-state config --list")
        return known[key.lower()]

    def set(self, key: str, value: str) -> None:
        """Sets a setting, durably.

        Raises:
            UsageError: there is no such setting, it cannot have this value, or the key is not one git could hold.
            StorageError: the disk refused.
        """
        self.update({key: value})

    def update(self, values: Mapping[str, str | None]) -> None:
        """Sets several settings, or unsets those that are None, durably and at once; raises what `set` does."""
        for key, value in values.items():
            if value is not None:
                _check(key, value)
        self._edit(values)

    def subsections(self, section: str) -> list[str]:
        """Returns what stands in quotes behind a section's name (the remotes of ``remote``), in the order of the file."""
        start = f"{section.lower()}."
        found = (key.removeprefix(start).rpartition(".")[0] for key in self._read() if key.startswith(start))
        return list(dict.fromkeys(name for name in found if name))

    def keys(self, prefix: str) -> list[str]:
        """Returns the keys that are set under a prefix such as ``remote.origin.``."""
        return [key for key in self._read() if key.startswith(prefix)]

    def _edit(self, values: Mapping[str, str | None]) -> None:
        import pygit2

        key = ""
        with self._lock.hold(_LOCK_TIMEOUT_S), self._lock.git_lock(self._path) as final, storage_errors(self._path):
            draft = self._path.with_name(f"tmp_config.{new_id()}")
            draft.write_bytes(self._path.read_bytes() if self._path.exists() else b"")
            try:
                edited = pygit2.Config(str(draft))
                for key, value in values.items():
                    if value is not None:
                        edited[key] = value
                    elif _folded(key) in self._read():
                        edited.delete_multivar(key, ".*")
                replace_file(self._path, draft.read_bytes(), temporary=final)
            except (ValueError, pygit2.GitError) as error:
                raise UsageError(f"{key!r} cannot be set: {error}", kind="bad-setting", hint="dvc-state config --list") from error
            finally:
                draft.unlink(missing_ok=True)

    def list(self) -> dict[str, str]:
        """Returns every known setting and everything that is set under ``dartvc.``."""
        found = {name: default for name, (default, _) in SETTINGS.items()}
        spelled = {name.lower(): name for name in SETTINGS}
        for key, value in self._read().items():
            if key in spelled or (key.startswith("dartvc.") and key != "dartvc.formatversion"):
                found[spelled.get(key, key)] = value
        return found

    def _read(self) -> dict[str, str]:
        try:
            text = self._path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError as error:
            raise CorruptError(f"{self._path} cannot be read: {error}", kind="config", hint="mend the file with an editor") from error
        return dict(parse_config(text.removeprefix("\ufeff"), str(self._path)))


def _folded(key: str) -> str:
    """Returns a key as it is compared: section and variable in lower case, a subsection as it is."""
    section, _, rest = key.partition(".")
    sub, dot, name = rest.rpartition(".")
    return f"{section.lower()}.{sub}{dot}{name.lower()}"


def parse_size(text: str, whole: int = 0) -> int:
    """Reads a size in bytes such as ``500M``, ``8G`` or, of a whole, ``25%``.

    Raises:
        UsageError: it is none.
    """
    plain = text.strip().upper().removesuffix("B").removesuffix("I")
    try:
        if plain.endswith("%") and whole:
            found = float(plain[:-1]) / 100 * whole
        else:
            unit = _UNITS_BYTES.get(plain[-1:], 0)
            found = float(plain[:-1]) * unit if unit else float(plain)
        if 0 <= found < 1 << 62:
            return int(found)
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not a size", kind="bad-size", hint="write 500M, 8G" + (" or 25%" if whole else ""))


def _check(key: str, value: str) -> None:
    """Refuses what no reader of a setting could make sense of.

    Raises:
        UsageError: there is no such setting, or it cannot have this value.
    """
    known = {name.lower(): name for name in SETTINGS}
    name = known.get(key.lower())
    if name is None:
        if key.partition(".")[0].lower() in _SECTIONS_OF_GIT:
            return
        import difflib  # only for a setting that there is not

        close = difflib.get_close_matches(key.lower(), known, n=1)
        hint = f"did you mean {known[close[0]]}?" if close else "dvc-state config --list"
        raise UsageError(f"there is no setting {key!r}", kind="unknown-setting", hint=hint)
    try:
        _PARSERS.get(name, str)(value)
    except UsageError as error:
        raise UsageError(f"{name} cannot be set: {error.message}", kind="bad-setting", hint=error.hint) from None


def parse_duration_s(text: str) -> float:
    """Reads a duration such as ``90s``, ``30m``, ``12h``, ``7d``, ``4w``; a bare number counts as seconds.

    Raises:
        UsageError: it is none.
    """
    plain = text.strip().lower()
    unit = _UNITS_S.get(plain[-1:], 0)
    try:
        found = float(plain[:-1]) * unit if unit else float(plain)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise UsageError(f"{text!r} is not a duration", kind="bad-duration", hint="write 30m, 12h, 7d or 4w")
    return found


def parse_count(text: str) -> int:
    """Reads how many of something are meant: a whole number from 0 on.

    Raises:
        UsageError: it is none.
    """
    if not (text.strip().isascii() and text.strip().isdecimal()):
        raise UsageError(f"{text!r} is not a number of commits", kind="bad-setting", hint="write 0, 10 or 1000")
    return int(text)


def parse_best(text: str) -> tuple[str, str, int] | None:
    """Reads ``max:NAME:K`` or ``min:NAME:K``, also with a blank before K; an empty text is no rule.

    Raises:
        UsageError: it is malformed.
    """
    if not text.strip():
        return None
    found = _BEST.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a rule", kind="bad-setting", hint="write max:acc:3")
    return found["way"], found["name"], int(found["count"])


def parse_percent(text: str) -> float:
    """Reads a number of percent, 0 or more.

    Raises:
        UsageError: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise UsageError(f"{text!r} is not a percentage", kind="bad-setting", hint="write 1 or 0.5")
    return found


def _policy(text: str) -> str:
    if text not in CACHE_POLICIES:
        raise UsageError(f"{text!r} is no policy for stored results", kind="bad-policy", hint=" or ".join(CACHE_POLICIES))
    return text


_PARSERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "dartvc.keepLast": parse_count,
        "dartvc.keepWithin": parse_duration_s,
        "dartvc.keepBest": parse_best,
        "dartvc.undoWindow": parse_duration_s,
        "dartvc.gracePeriod": parse_duration_s,
        "dartvc.maxOverhead": parse_percent,
        "dartvc.every": parse_duration_s,
        "dartvc.minFree": parse_size,
        "dartvc.cachePolicy": _policy,
        "dartvc.cacheMemory": lambda text: parse_size(text, 1),
        "dartvc.cacheSize": parse_size,
    }
)
"""What reads each setting that is more than a text."""
