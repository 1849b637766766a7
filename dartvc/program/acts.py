"""The acts of a program that cannot be undone: the programs that it starts, the connections that it opens, the messages that it sends.

Each is counted under a short description, from which secrets are left out: of a command line only the program's name is kept, and the verb
of programs that are known to have verbs (``git push ...``); of a connection the host and the port.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartvc.host.places import is_library_file
from dartvc.model.records import NamedTuple
from dartvc.program.records import read_records

__all__ = ["ACT_EVENTS", "Act", "Acts", "acts_between", "acts_since", "describe_acts", "read_acts"]

ACT_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}
)
_WORDS = {
    "subprocess": ("started", "subprocess", "subprocesses"),
    "shell": ("run", "shell command", "shell commands"),
    "exec": ("become", "another program", "other programs"),
    "connection": ("opened", "connection", "connections"),
    "message": ("sent", "message", "messages"),
}
_LISTED_LIMIT = 64
_OTHERS = "others"
_NAMELESS = "a program"
_SHOWN = 3
_WRITTEN_ONE_BY_ONE = 16
_WITH_VERBS = frozenset(
    {"apt", "apt-get", "aws", "az", "cargo", "conda", "docker", "dvc", "gcloud", "gh", "git", "gsutil", "helm", "hg", "kubectl"}
    | {"mamba", "mlflow", "npm", "pip", "pip3", "podman", "poetry", "svn", "systemctl", "terraform", "uv", "yarn"}
)
_INTERPRETERS = r"(python|pypy)[\d.]*$|(ba|da|z)?sh$|perl$|ruby$|node$|Rscript$"
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})
_VERB = r"[a-z][a-z-]{1,15}$"
_SCRIPT = r"[\w-]{1,40}\.(py|sh|pl|rb|js|R)$"
_ASSIGNMENT = r"\w+="
_ADDRESS = r"[\d.]+$|[\da-fA-F:]*:[\da-fA-F:.%\w]*$"


class Act(NamedTuple):
    """What a program did, and how often: ``Act("subprocess", "git push ...", 2)``."""

    kind: str
    what: str
    times: int


class Acts:
    """Counts the acts of one program.

    Args:
        note: makes a record durable against a kill, before the act happens.
    """

    def __init__(self, note: Callable[[Mapping[str, object]], None]) -> None:
        self._note = note
        self._total: dict[tuple[str, str], int] = {}
        self._recent: dict[tuple[str, str], int] = {}
        self._asked: dict[int, tuple[str, object]] = {}
        self._lock = threading.RLock()

    def begin(self, acts: Iterable[Act]) -> None:
        """Goes on from what had been done at a commit."""
        self._total = {(act.kind, act.what): act.times for act in acts}

    def total(self) -> list[Act]:
        """Returns what was done since the program began."""
        return [Act(kind, what, count) for (kind, what), count in list(self._total.items())]

    def advance(self) -> None:
        """Lets acts from now on belong to the next commit."""
        self._recent.clear()

    def hear(self, event: str, arguments: Sequence[Any]) -> None:
        """Takes note of one of `ACT_EVENTS`; called by the audit hook alone, in which nothing may raise."""
        try:
            self._hear(event, arguments)
        except Exception:
            self._add("subprocess" if "socket" not in event else "connection", _OTHERS)

    def _hear(self, event: str, arguments: Sequence[Any]) -> None:
        if event == "socket.getaddrinfo":
            self._asked[threading.get_ident()] = str(_text(arguments[0])), arguments[1]
        elif event == "socket.connect":
            self._add("connection", self._place(arguments[1]))
        elif event in ("socket.sendto", "socket.sendmsg"):
            self._add("message", self._place(arguments[1]))
        elif _is_by_an_import():
            return
        elif event == "subprocess.Popen":
            words = arguments[1]
            words = words if isinstance(words, list | tuple) and words else [arguments[0]]
            if len(words) > 2 and _text(words[1]) == "-c" and _name_of(words[0]) in _SHELLS:
                self._add("shell", _shell_command(_text(words[2])))
            else:
                self._add("subprocess", _command(words))
        elif event == "os.system":
            self._add("shell", _shell_command(_text(arguments[0])))
        elif event == "os.posix_spawn" and sys._getframe(4).f_globals.get("__name__") != "subprocess":  # it was told as Popen
            self._add("subprocess", _command(arguments[1] or [arguments[0]]))
        elif event == "os.exec":
            self._add("exec", _command(arguments[1] or [arguments[0]]))

    def _place(self, address: Any) -> str:
        """Returns ``host:port``, with the name that was looked up when there was one; empty for what stays inside the program."""
        if isinstance(address, str | bytes):
            path = _text(address)
            return "" if "/pymp-" in path else f"socket {path[:80]}"
        if not isinstance(address, tuple) or len(address) < 2:
            return ""
        host, port = str(address[0]), address[1]
        name, asked = self._asked.get(threading.get_ident(), ("", None))
        if name and str(asked) == str(port) and re.match(_ADDRESS, host):
            host = name
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _add(self, kind: str, what: str) -> None:
        if not what:
            return
        with self._lock:
            if (kind, what) not in self._total and len(self._total) >= _LISTED_LIMIT:
                what = _OTHERS
            key = kind, what
            self._total[key] = self._total.get(key, 0) + 1
            count = self._recent[key] = self._recent.get(key, 0) + 1
            if count <= _WRITTEN_ONE_BY_ONE or count & (count - 1) == 0:
                self._note({"act": kind, "what": what, "times": count})


def _is_by_an_import() -> bool:
    """Whether a library is being imported just now, and looks at the machine (PyTorch asks ``ldconfig``): nothing of the program's."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        filename = frame.f_code.co_filename
        if filename.startswith("<frozen importlib"):
            return True
        if not is_library_file(filename):
            return False
    return False


def _text(word: object) -> str:
    return os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else ""


def _name_of(word: object) -> str:
    return "".join(each if each.isprintable() else "?" for each in os.path.basename(_text(word)))[:40]


def _command(words: Sequence[object]) -> str:
    """Returns a command line without what may be secret in it: ``git push ...``, ``python train.py ...``, ``curl ...``."""
    name = _name_of(words[0]) or _NAMELESS
    shown, rest = name, [_text(word) for word in words[1:]]
    if rest and name in _WITH_VERBS and re.match(_VERB, rest[0]):
        shown, rest = f"{name} {rest[0]}", rest[1:]
    elif rest and re.match(_INTERPRETERS, name) and re.match(_SCRIPT, os.path.basename(rest[0])):
        shown, rest = f"{name} {os.path.basename(rest[0])}", rest[1:]
    return shown + (" ..." if rest else "")


def _shell_command(text: str) -> str:
    import shlex

    try:
        words = shlex.split(text)
    except ValueError:
        words = [*text.split()[:1], "..."]
    while words and re.match(_ASSIGNMENT, words[0]):
        del words[0]
    return _command(words) if words else "sh"


def read_acts(summary: Mapping[str, Any]) -> list[Act]:
    """Reads the acts that a commit records (docs/format.md); none from what does not look like them."""
    try:
        return [Act(str(each["kind"]), str(each["what"]), int(each["times"])) for each in summary.get("items", ())]
    except (KeyError, TypeError, ValueError):
        return []


def acts_between(before: Iterable[Act], after: Iterable[Act]) -> list[Act]:
    """Returns what was done between two commits of one run."""
    known = {(act.kind, act.what): act.times for act in before}
    return [act._replace(times=more) for act in after if (more := act.times - known.get((act.kind, act.what), 0)) > 0]


def acts_since(journal: Path, sequence: int) -> list[Act]:
    """Returns what the journal of a run says was done after commit number ``sequence``.

    Of more than sixteen equal acts between two commits it knows at least the half.
    """
    try:
        written = read_records(journal).written
    except OSError:
        return []
    records = [record for record in itertools.takewhile(lambda record: record["sequence"] >= sequence, written) if "act" in record]
    totals: dict[tuple[str, str], int] = {}
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    for record in reversed(records):
        key, stretch, count = (str(record["act"]), str(record["what"])), int(record["sequence"]), int(record["times"])
        before, counted = latest.get(key, (-1, 0))
        is_same = before == stretch and count > counted  # it counts from one again after each commit, and after a resume
        totals[key] = totals.get(key, 0) + (count - counted if is_same else count)
        latest[key] = stretch, count
    return [Act(kind, what, count) for (kind, what), count in totals.items()]


def describe_acts(acts: Iterable[Act]) -> str:
    """Returns acts as a phrase that follows "has": ``started 2 subprocesses (git push ...), opened 1 connection (example.org:443)``; empty without acts."""
    groups: dict[str, list[Act]] = {}
    for act in acts:
        groups.setdefault(act.kind, []).append(act)
    phrases = []
    for kind, group in groups.items():
        verb, one, many = _WORDS.get(kind, ("done", kind, kind))
        count = sum(act.times for act in group)
        names = [f"{act.what} {act.times} times" if act.times > 1 and len(group) > 1 else act.what for act in group]
        listed = ", ".join(names[:_SHOWN]) + (f", {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        phrases.append(f"{verb} {count} {one if count == 1 else many} ({listed})")
    return ", ".join(phrases)
