"""Which sessions are alive in a repository, and the socket by which other processes speak to one.

A session holds an flock on a file beside its entry for as long as its process lives. The kernel tells so across containers and users, and
takes it back when the process is killed: a process id means nothing in another PID namespace, and may not be asked about by another user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError
from dartvc.model import Oid
from dartvc.model.records import NamedTuple
from dartvc.store.durable import is_abandoned

if TYPE_CHECKING:
    import socket

__all__ = ["LiveSession", "Registration", "is_alive", "is_own", "living_sessions"]

_ANSWER_BYTES = 64 * 1024 * 1024


class LiveSession(NamedTuple):
    """A session of a living process."""

    session_id: str
    pid: int
    started_s: float
    branch: str | None
    socket_path: Path
    detached_at: Oid | None = None
    """The commit that it stands at when it is on no branch."""
    run_id: str = ""
    """The run that it executes."""


def living_sessions(repository_path: Path) -> list[LiveSession]:
    """Returns the sessions whose process is alive, oldest first."""
    found = []
    for path in (repository_path / "sessions").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if is_alive(repository_path, path.stem):
                row = json.loads(path.read_text())
                found.append(
                    LiveSession(
                        path.stem, row["pid"], row["started"], row["branch"], path.with_suffix(".sock"), row.get("detached_at"), row.get("run", "")
                    )
                )
    return sorted(found, key=lambda each: (each.started_s, each.session_id))


def is_alive(repository_path: Path, session_id: str) -> bool:
    """Whether the process of a session is alive; one that cannot be asked about (by this user, now) is taken for alive."""
    try:
        return _is_alive(repository_path / "sessions" / f"{session_id}.json")
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
    except OSError:
        return True


def is_own(session_id: str) -> bool:
    """Whether a session is one of this process."""
    return any(each.session_id == session_id for each in _REGISTERED)


def _is_alive(entry: Path) -> bool:
    """Whether the session of an entry lives.

    Raises:
        OSError: there is no such entry (`FileNotFoundError`), or it cannot be read.
        ValueError, KeyError, TypeError: it is damaged.
    """
    held = _is_held(entry.with_suffix(".lock"))
    if held is not None:
        return held and entry.exists()
    row = json.loads(entry.read_text())
    try:
        os.kill(row["pid"], 0)
    except PermissionError:
        return True  # it lives, and belongs to somebody else
    except OSError:
        return False
    return bool(_started(row["pid"]) == row["process_start"])


def _is_held(lock: Path) -> bool | None:
    """Whether somebody holds a lock; None when there is none, or the file system knows no locks."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _started(pid: int) -> str:
    """Returns when a process started, in the kernel's words, so that a reused process id is not taken for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return fields[19] if fields[0] not in "ZX" else ""  # killed, and not yet reaped by its parent
    except (OSError, IndexError):
        return ""


class Registration:
    """This process's entry among the sessions of a repository."""

    def __init__(self, repository_path: Path, session_id: str) -> None:
        self._folder = repository_path / "sessions"
        self._repository_path = repository_path
        self.session_id = session_id
        self._path = self._folder / f"{session_id}.json"
        self._socket: socket.socket | None = None
        self._lock: int | None = None
        self._process = os.getpid()
        self._began = _now()
        self._left_behind = self._sweep()

    def _sweep(self) -> bool:
        """Removes the entries of dead processes; returns whether any of them died without ending its session."""
        crashed = False
        for path in self._folder.glob("*.json"):
            if not is_alive(self._repository_path, path.stem):
                crashed = True
                for stale in (path, path.with_suffix(".sock"), path.with_suffix(".lock")):
                    with contextlib.suppress(OSError):
                        stale.unlink()
        for path in self._folder.glob("*.lock"):
            if not path.with_suffix(".json").exists():
                is_abandoned(path, remove=True)
        marker = self._repository_path / "restore-next"
        if marker.exists():
            crashed = True
            with contextlib.suppress(OSError):
                marker.unlink()
        return crashed

    def should_restore(self) -> bool:
        """Whether a fresh namespace should begin at HEAD: the last session died, or HEAD was moved while none was alive."""
        return self._left_behind

    def write(self, branch: str | None, detached_at: Oid | None = None, run_id: str = "") -> None:
        """Writes (or renews) the entry; a forked child leaves that of its parent as it is."""
        if os.getpid() != self._process:
            return
        row = {
            "pid": os.getpid(),
            "process_start": _started(os.getpid()),
            "started": self._began,
            "branch": branch,
            "detached_at": detached_at,
            "run": run_id,
        }
        with contextlib.suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            if self not in _REGISTERED:
                self._lock = _hold_for_life(self._path.with_suffix(".lock"))
                _REGISTERED.add(self)
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(row))
            os.rename(temporary, self._path)

    def others(self) -> list[LiveSession]:
        """Returns the other living sessions."""
        return [each for each in living_sessions(self._repository_path) if each.session_id != self.session_id]

    def is_oldest(self) -> bool:
        """Whether no older session is alive."""
        return all((each.started_s, each.session_id) > (self._began, self.session_id) for each in self.others())

    def end(self) -> None:
        """Removes the entry: the session ended by itself."""
        if self._socket is not None:
            self._socket.close()
        for path in (self._path, self._path.with_suffix(".sock"), self._path.with_suffix(".lock")):
            with contextlib.suppress(OSError):
                path.unlink()
        _REGISTERED.discard(self)
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # closing is not enough when a child was forked meanwhile
            self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def serve(self, answer: Callable[[list[str], bool], tuple[int, str, str]]) -> None:
        """Answers command lines on a Unix socket, one JSON line each way, on a thread of its own."""
        import socket

        address = self._path.with_suffix(".sock")
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(OSError):
                address.unlink()
            _bind_short(server, address)
            os.chmod(address, 0o600)
            server.listen(8)
        except OSError:
            server.close()
            return
        self._socket = server
        threading.Thread(target=_serve, args=(server, answer), name="dartvc-control", daemon=True).start()


_REGISTERED: weakref.WeakSet[Registration] = weakref.WeakSet()
"""The sessions of this process."""


def _after_fork() -> None:
    """Closes the locks in a forked child, which may outlive its parent: they are the parent's."""
    for each in list(_REGISTERED):
        each._let_go()
    _REGISTERED.clear()


os.register_at_fork(after_in_child=_after_fork)


def _hold_for_life(path: Path) -> int | None:
    """Takes the lock of a session that begins; None where the file system knows no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass  # swept away before it was locked
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            return None
        os.close(descriptor)


def _now() -> float:
    import time

    return time.time()


def _bind_short(server: socket.socket, address: Path) -> None:
    """Binds to a path of any length: the kernel's limit of 107 bytes applies to what is written, not to where it is."""
    descriptor = os.open(address.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        server.bind(f"/proc/self/fd/{descriptor}/{address.name}")
    finally:
        os.close(descriptor)


def _serve(server: socket.socket, answer: Callable[[list[str], bool], tuple[int, str, str]]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError, ValueError):
            line = connection.makefile("rb").readline(_ANSWER_BYTES)
            request = json.loads(line)
            try:
                code, out, err = answer(list(request["argv"]), bool(request.get("color")))
            except DartvcError as error:
                code, out, err = error.exit_code, "", f"error: {error.message}\n" + (f"  {error.hint}\n" if error.hint else "")
            except Exception as error:
                code, out, err = 1, "", f"error: {type(error).__name__}: {error}\n"
            connection.sendall(json.dumps({"rc": code, "stdout": out, "stderr": err}).encode() + b"\n")
