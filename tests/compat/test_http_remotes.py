"""Remotes over http: a real ``git http-backend`` behind a server of this machine; who may push is asked for a name."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import dartvc
from dartvc.errors import RemoteError
from dartvc.history import Repository
from dartvc.host.progress import watched_by
from dartvc.remotes import Remotes, UpdateKind, clone, fetch, parse_address, push
from dartvc.remotes.pushing import RefSpec
from tests.compat.test_c_git import git


def _backend() -> Path | None:
    found = shutil.which("git")
    folder = subprocess.run([found, "--exec-path"], capture_output=True, text=True, check=True).stdout.strip() if found else ""
    path = Path(folder, "git-http-backend")
    return path if found and path.is_file() and Path(folder, "git-remote-http").is_file() else None


BACKEND = _backend()
pytestmark = pytest.mark.skipif(BACKEND is None, reason="git http-backend is not installed")
USER = base64.b64encode(b"ada:secret").decode()


class Handler(BaseHTTPRequestHandler):
    """Hands requests to git's own server program, as a web server does (RFC 3875); a push needs the name and the word of a user."""

    root = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        sent = self.headers.get("Authorization", "")
        is_known = sent == f"Basic {USER}"
        if (sent and not is_known) or ("git-receive-pack" in self.path and not is_known):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="states"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        variables = {
            "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1", **({"REMOTE_USER": "ada"} if is_known else {}),
        }  # fmt: skip
        body = self._body()
        done = subprocess.run(
            [str(BACKEND)], input=body, capture_output=True, env={**os.environ, **variables, "CONTENT_LENGTH": str(len(body))}, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Returns the host and port at which the folder ``served`` is reached."""
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    monkeypatch.setenv("GIT_ASKPASS", "false")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"root": str(tmp_path / "served")}))
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    """Returns a project with two commits."""
    repository = dartvc.init(tmp_path / "project")
    namespace: dict[str, object] = {"x": 1}
    repository.commit(namespace, "first")
    namespace["rows"] = [{"id": number, "text": os.urandom(40).hex()} for number in range(40_000)]
    repository.commit(namespace, "second")
    return repository.history


def test_states_travel_over_http_both_ways(tmp_path: Path, server: str, project: Repository) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "served" / "shared.git"], check=True)
    remotes = Remotes(project)
    remote = remotes.add("origin", f"http://ada:secret@{server}/shared.git")
    sent = push(project, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/main")])
    assert [update.kind for update in sent.updates] == [UpdateKind.NEW]
    git(tmp_path / "served" / "shared.git", "fsck", "--strict", "--full")

    made = clone(parse_address(f"http://{server}/shared.git", tmp_path), tmp_path / "copy", trust=True)
    copy = dartvc.open(made.root)
    assert copy.load("main", trust=True)["x"] == 1 and len(copy.load("main", trust=True)["rows"]) == 40_000  # type: ignore[arg-type]

    dartvc.open(project.root).commit({"x": 2}, "third")
    push(project, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/main")])
    origin = Remotes(copy.history)
    got = fetch(copy.history, origin.get("origin"), origin.address(origin.get("origin")))
    assert [update.kind for update in got.updates] == [UpdateKind.FAST_FORWARD]
    assert copy.load("origin/main", trust=True)["x"] == 2


@pytest.mark.parametrize("name", ["", "ada:guess@"])
def test_a_push_without_rights_is_refused_and_says_so_without_the_password(
    tmp_path: Path, server: str, project: Repository, name: str
) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "served" / "shared.git"], check=True)
    remotes = Remotes(project)
    remote = remotes.add("origin", f"http://{name}{server}/shared.git")
    with pytest.raises(RemoteError, match="refuses") as caught:
        push(project, remote, remotes.address(remote), [RefSpec("refs/heads/main", "refs/heads/main")])
    assert "guess" not in str(caught.value)
    assert caught.value.exit_code == 7
    assert git(tmp_path / "served" / "shared.git", "for-each-ref") == ""


def test_a_server_that_is_not_there_is_named(tmp_path: Path, server: str) -> None:
    with pytest.raises(RemoteError, match="no-such"):
        clone(parse_address(f"http://{server}/no-such.git", tmp_path), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


class _Seen:
    def __init__(self) -> None:
        self.tasks: list[list[object]] = []

    def begin(self, what: str, total: int | None) -> object:
        task: list[object] = [what, 0, total]
        self.tasks.append(task)

        def step() -> None:
            task[1] += 1  # type: ignore[operator]

        return step

    def end(self) -> None:
        """Nothing more comes of the task."""


def test_what_git_says_of_its_progress_is_shown(tmp_path: Path, server: str, project: Repository) -> None:
    shutil.copytree(project.path, tmp_path / "served" / "shared.git")
    seen = _Seen()
    with watched_by(seen):  # type: ignore[arg-type]
        clone(parse_address(f"http://{server}/shared.git", tmp_path), tmp_path / "copy")
    received = [task for task in seen.tasks if task[0] == "receiving objects"]
    assert received and received[0][1] == received[0][2] != 0
