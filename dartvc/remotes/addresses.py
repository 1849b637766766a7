"""Where another repository is: a path, a bundle file, or a URL that the ``git`` program can reach (git-fetch, "GIT URLS")."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dartvc.errors import UsageError
from dartvc.history.repository import FOLDER

__all__ = ["Address", "parse_address"]

_BUNDLE_SIGNATURES = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_GIT_SCHEMES = frozenset({"ssh", "git+ssh", "ssh+git", "http", "https", "git"})
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9]+::")
_SCP = re.compile(r"(?P<host>(?:[^/:@]+@)?(?:\[[^\]/]+\]|[^/:\[\]]+)):(?P<path>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is: at ``path`` on this machine, or at ``url`` for the git program when ``path`` is None."""

    url: str
    path: Path | None = None
    is_bundle: bool = False

    @property
    def stem(self) -> str:
        """What a clone's folder is named by default."""
        text = str(self.path) if self.path is not None else self.url.rstrip("/")
        parts = [part for part in re.split(r"[/:]", text) if part and part != FOLDER]
        name = parts[-1] if parts else ""
        return name.removesuffix(".git").removesuffix(".bundle") or name

    @property
    def shown(self) -> str:
        """The address as people may see it: without a password or a token."""
        return re.sub(r"(?<=://)[^/@]*:[^/@]*@", "", self.url)

    def candidates(self) -> tuple[str, ...]:
        """Returns the URLs to try for the git program: a project's folder has its states in ``.dvc-state``."""
        bare = self.url.rstrip("/")
        if self.path is not None or bare.endswith((".git", FOLDER)) or bare.startswith(("http:", "https:")):
            return (self.url,)
        return (f"{bare}/{FOLDER}", self.url)


def parse_address(text: str, base: Path) -> Address:
    """Reads an address as git does: a path that exists counts as a path, ``host:path`` is ssh.

    Args:
        text: what the user, or a configuration, says.
        base: what a relative path starts from.

    Raises:
        UsageError: it is empty, or names a transport that could run a program of its choice.
    """
    if not text or text.startswith("-") or "\n" in text or "\0" in text:
        raise UsageError(f"{text!r} is not an address", kind="bad-address", hint="a path, ssh://HOST/PATH, HOST:PATH or https://...")
    scheme = _SCHEME.match(text)
    if scheme is not None:
        name = scheme["scheme"].lower()
        if name == "file":
            return _at_path(Path(unquote(urlsplit(text).path)), text)
        if name not in _GIT_SCHEMES:
            raise UsageError(f"{name}:// is not supported", kind="bad-address", hint="a path, ssh://HOST/PATH, HOST:PATH or https://...")
        if urlsplit(text).netloc.rpartition("@")[2].startswith("-"):
            raise UsageError(f"{text!r} names no host", kind="bad-address", hint="ssh://HOST/PATH")
        return Address(text)
    path = base / os.path.expanduser(text)
    if _HELPER.match(text) and not path.exists():
        raise UsageError(f"{text!r} would run a program of its choice", kind="bad-address", hint="a path, ssh://HOST/PATH or https://...")
    remote = _SCP.fullmatch(text)
    if remote is not None and "/" not in remote["host"] and not path.exists():
        return Address(text)
    return _at_path(path, text)


def _at_path(path: Path, url: str) -> Address:
    path = Path(os.path.abspath(path))
    try:
        with open(path, "rb") as file:
            is_bundle = file.read(len(_BUNDLE_SIGNATURES[0])) in _BUNDLE_SIGNATURES
    except OSError:
        is_bundle = False
    return Address(url, path, is_bundle)
