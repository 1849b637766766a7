"""A place where the ``git`` program works on an exchange and sees nothing but what we put there.

git reads the configuration, runs the hooks and obeys the refs of the repository that it is pointed at; any of these may come from a
stranger, for a project's folder can be copied. So it is pointed at a fresh, empty repository beside ours, which borrows our objects
(objects/info/alternates) and names our commits. The user's own configuration (ssh, credentials, proxies) counts as ever. What git
receives lies there, indexed and hashed by it, until `adopt` makes it durable and gives it to the database.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Self

from dartvc.errors import RemoteError
from dartvc.host.children import child_environment
from dartvc.host.entropy import new_id
from dartvc.host.progress import counting
from dartvc.model import Oid
from dartvc.store import ObjectDatabase
from dartvc.store.durable import is_abandoned, storage_errors, sync_file, sync_folder

__all__ = ["Workshop"]

_PREFIX = "tmp_exchange_"
_PROGRESS = re.compile(r"(?:remote: )?([A-Z][a-z]+ [a-z]+): +[0-9]+% \(([0-9]+)/([0-9]+)\)")
"""What git says of how far it has come: ``Receiving objects:  42% (21/50), 1.20 MiB``."""
_LOCATIONS = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR",
    "GIT_NAMESPACE", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_CONFIG", "GIT_REPLACE_REF_BASE",
)  # fmt: skip
_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = true
\tfsync = none
\tlogAllRefUpdates = false
\tbigFileThreshold = 64k
\talternateRefsCommand = true
[pack]
\twindow = 0
\tcompression = 1
\twriteReverseIndex = false
[gc]
\tauto = 0
"""
_OVERRIDES = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.prune": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "push.gpgSign": "false",
    "push.recurseSubmodules": "no",
    "push.followTags": "false",
}


class Workshop:
    """An empty repository inside ``database.path``, with the commits of ``tips`` as what it has; a context manager."""

    def __init__(self, database: ObjectDatabase, tips: Iterable[Oid]) -> None:
        self._database = database
        self.path = database.path / f"{_PREFIX}{os.getpid()}_{new_id()}"
        self._tips = sorted(set(tips))
        self._lock = -1

    def __enter__(self) -> Self:
        with storage_errors(self.path):
            _sweep(self._database.path)
            for folder in ("objects/info", "objects/pack", "refs"):
                (self.path / folder).mkdir(parents=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self.path / "config").write_text(_CONFIG)
            (self.path / "objects/info/alternates").write_text("../../objects\n")
            (self.path / "packed-refs").write_text("".join(f"{oid} refs/ours/{number}\n" for number, oid in enumerate(self._tips)))
            (self.path / "HEAD").write_text("ref: refs/heads/main\n")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)

    def git(
        self, *words: str, given: str = "", source: BinaryIO | None = None, protocols: str = "ssh:https:http:git"
    ) -> subprocess.CompletedProcess[str]:
        """Runs git here, with a text or a file as its input; its exit status is for the caller to judge.

        Raises:
            RemoteError: there is no git.
        """
        overrides = [word for key, value in _OVERRIDES.items() for word in ("-c", f"{key}={value}")]
        added = {"GIT_ALLOW_PROTOCOL": protocols, "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C", "GIT_DIR": str(self.path)}
        try:
            with subprocess.Popen(
                ["git", *overrides, *words],
                stdin=subprocess.PIPE if source is None else source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="surrogateescape",
                env=child_environment(_LOCATIONS, added),
            ) as child:
                if "--progress" not in words:
                    out, said = child.communicate(given if source is None else None)
                else:
                    assert child.stderr is not None
                    out, said = _followed(child, child.stderr, given)
                return subprocess.CompletedProcess(child.args, child.returncode, out, said)
        except FileNotFoundError as error:
            message = "the git program is needed for ssh, https and bundles, and is not installed"
            raise RemoteError(message, kind="no-git", hint="apt install git; paths on this machine need no git") from error
        except OSError as error:
            raise RemoteError(f"git cannot be run: {error}", kind="no-git", hint="git --version") from error

    def received(self, prefix: str) -> Mapping[str, Oid]:
        """Returns the refs that git made here below a prefix, peeled: a tag object counts as its commit."""
        listed = self.git("for-each-ref", "--format=%(objectname) %(*objectname) %(refname)", prefix)
        rows = (line.split(" ", 2) for line in listed.stdout.splitlines())
        return {name.removeprefix(prefix): Oid(peeled or oid) for oid, peeled, name in rows}

    def adopt(self) -> None:
        """Makes the packs that git received durable and gives them to the database; refs of ours may point at them then."""
        source, target = self.path / "objects" / "pack", self._database.pack_folder
        indexes: list[Path] = []
        with storage_errors(target):
            for index in sorted(source.glob("pack-*.idx")):
                pack = index.with_suffix(".pack")
                for path in (pack, index):
                    sync_file(path)
                os.rename(pack, target / pack.name)
                os.rename(index, target / index.name)
                indexes.append(target / index.name)
            if indexes:
                sync_folder(target)
        self._database.adopt_packs(indexes)


def _followed(child: subprocess.Popen[str], stderr: IO[str], given: str) -> tuple[str, str]:
    """Shows how far git says that it has come while it works; returns what it wrote to stdout, and the rest of what it said."""
    answered: list[str] = []
    child.stderr = None  # `communicate` leaves it to us
    answering = threading.Thread(target=lambda: answered.append(child.communicate(given)[0]), name="dartvc-git", daemon=True)
    answering.start()
    said: list[str] = []
    with contextlib.ExitStack() as stack, stderr:
        phase, done = "", 0
        step: Callable[[], object] = int
        for line in stderr:  # universal newlines: a carriage return ends one, too
            found = _PROGRESS.match(line)
            if found is None:
                said.append(line)
                continue
            if found[1] != phase:
                stack.close()
                phase, done = found[1], 0
                step = stack.enter_context(counting(phase.lower(), int(found[3])))
            for _ in range(int(found[2]) - done):
                step()
            done = int(found[2])
    answering.join()
    return answered[0], "".join(said)


def _sweep(folder: Path) -> None:
    """Takes away the workshops of processes that died."""
    for path in folder.glob(f"{_PREFIX}*"):
        lock = path / "lock"
        with contextlib.suppress(OSError):
            if is_abandoned(lock):
                shutil.rmtree(path, ignore_errors=True)


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Returns what git said was wrong, as one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    fatal = [line.partition(": ")[2] for line in lines if line.startswith(("fatal: ", "error: "))]
    return (fatal or lines or [f"git ended with {done.returncode}"])[0]


def server_messages(done: subprocess.CompletedProcess[str]) -> Sequence[str]:
    """Returns what the other side's git or its hooks said."""
    return [line.removeprefix("remote: ").rstrip() for line in done.stderr.splitlines() if line.startswith("remote: ")]
