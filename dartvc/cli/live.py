"""Sending a command line to the session that lives in another process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from dartvc.errors import LockedError, NotFoundError
from dartvc.sessions.registry import LiveSession, is_own, living_sessions

__all__ = ["FORWARDED", "choose_session", "find_session", "send", "sessions_elsewhere"]

FORWARDED = frozenset({"checkout", "restore", "switch", "undo", "redo", "reset", "revert", "cherry-pick", "stash", "commit", "op restore"})
_CONNECT_S = 2.0
_ANSWER_S = 600.0


def sessions_elsewhere(repository_path: Path) -> list[LiveSession]:
    """Returns the living sessions of other processes that answer commands, oldest first."""
    return [each for each in living_sessions(repository_path) if not is_own(each.session_id) and os.access(each.socket_path, os.W_OK)]


def choose_session(sessions: Sequence[LiveSession], session_id: str = "") -> LiveSession | None:
    """Returns the session that commands go to: the one asked for, else the youngest; None when there is none.

    Raises:
        NotFoundError: the one asked for does not live.
    """
    if session_id:
        for each in sessions:
            if each.session_id.startswith(session_id):
                return each
        raise NotFoundError(f"no session {session_id!r} is alive", kind="unknown-session", hint="dvc-state status")
    return sessions[-1] if sessions else None


def find_session(repository_path: Path) -> LiveSession | None:
    """Returns the session that commands go to when none is asked for; None when none lives."""
    return choose_session(sessions_elsewhere(repository_path))


def send(session: LiveSession, argv: Sequence[str], color: bool) -> tuple[int, str, str]:
    """Runs a command line in a living session and returns (exit code, output, messages).

    Raises:
        LockedError: the session does not answer.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_S)
    folder = os.open(session.socket_path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{session.socket_path.name}")
        connection.settimeout(_ANSWER_S)
        connection.sendall(json.dumps({"argv": list(argv), "color": color}).encode() + b"\n")
        answer = json.loads(connection.makefile("rb").readline())
    except (OSError, ValueError) as error:
        raise LockedError(
            f"session {session.session_id} (process {session.pid}) does not answer: {error}", kind="session-silent", hint="try again"
        ) from error
    finally:
        os.close(folder)
        connection.close()
    return int(answer["rc"]), str(answer["stdout"]), str(answer["stderr"])
