"""Clone, fetch, push, pull and bundles as commands, in processes of their own: over a path, file://, ssh, and with sessions alive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
FAKE_SSH = Path(__file__).with_name("fake_ssh.sh")
COMMIT = "import dartvc, sys; repo = dartvc.init(); repo.commit({sys.argv[1]: eval(sys.argv[2])}, sys.argv[1] + '=' + sys.argv[2])"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "GIT_SSH_COMMAND": str(FAKE_SSH), **more}


def dvc(cwd: Path, *words: str, rc: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line in a process of its own."""
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    done = subprocess.run(line, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False, timeout=120)
    assert rc is None or done.returncode == rc, done.stdout + done.stderr
    return done


def parsed(cwd: Path, *words: str) -> Any:
    return json.loads(dvc(cwd, *words, "--json").stdout)


def commit(cwd: Path, name: str, value: str, **more: str) -> None:
    cwd.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", COMMIT, name, value], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def messages(cwd: Path, revision: str = "HEAD") -> list[str]:
    return [item["message"] for item in parsed(cwd, "log", revision)["items"]]


@pytest.fixture(params=["path", "file", "ssh", "scp", "bare"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A place that two projects share, and its address; "bare" is one that only git made."""
    place = tmp_path / "shared place"
    if request.param == "bare":
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", f"{place}.git"], check=True)
        return Path(f"{place}.git"), f"{place}.git"
    dvc(tmp_path, "init", str(place))
    addresses = {"path": str(place), "file": f"file://{place}", "ssh": f"ssh://host{place}", "scp": f"host:{place}"}
    return place, addresses[request.param]


def test_two_projects_work_through_a_shared_place(tmp_path: Path, shared: tuple[Path, str]) -> None:
    _, address = shared
    first, second = tmp_path / "first", tmp_path / "second"
    commit(first, "x", "1")
    commit(first, "x", "list(range(100000))")
    dvc(first, "tag", "best")
    dvc(first, "remote", "add", "origin", address)
    assert "[new branch]" in dvc(first, "push").stdout
    assert "up to date" in dvc(first, "push").stderr
    dvc(tmp_path, "clone", address, "second")
    assert messages(second) == messages(first) and messages(second, "best") == messages(first)
    commit(second, "y", "2")
    assert parsed(second, "status")["upstream"] == {"upstream": "origin/main", "ahead": 1, "behind": 0}
    dvc(second, "push")
    dvc(first, "fetch")
    assert parsed(first, "status")["upstream"] == {"upstream": "origin/main", "ahead": 0, "behind": 1}
    assert "behind origin/main by 1" in dvc(first, "status").stdout
    assert "1 commit forward" in dvc(first, "pull").stdout
    assert messages(first) == messages(second)
    assert "up to date" in dvc(first, "pull").stdout
    for project in (first, second):
        dvc(project, "fsck")


def test_what_went_apart_is_refused_with_the_ways_out(tmp_path: Path, shared: tuple[Path, str]) -> None:
    _, address = shared
    first, second = tmp_path / "first", tmp_path / "second"
    commit(first, "x", "1")
    dvc(first, "remote", "add", "origin", address)
    dvc(first, "push")
    dvc(tmp_path, "clone", address, "second")
    commit(first, "x", "2")
    commit(second, "x", "3")
    dvc(first, "push")
    rejected = dvc(second, "push", rc=4)
    assert "[rejected]" in rejected.stdout and "pull" in rejected.stderr
    refused = dvc(second, "pull", rc=4)
    assert "1 commits are only here, 1 only there" in refused.stderr and "cherry-pick" in refused.stderr
    assert messages(second) == ["x=3", "x=1"]
    dvc(second, "checkout", "origin/main", "-b", "merged")
    assert messages(second) == ["x=2", "x=1"]
    dvc(second, "push", "origin", "+main", "merged")
    assert messages(second, "origin/main") == ["x=3", "x=1"]


def test_a_run_that_went_on_here_and_there_stops_no_exchange(tmp_path: Path) -> None:
    first, place = tmp_path / "first", tmp_path / "place"
    first.mkdir()
    (first / "program.py").write_text("for step in range(3):\n    print(step)\n")
    dvc(tmp_path, "init", str(place))
    dvc(first, "run", "program.py")
    dvc(first, "remote", "add", "origin", str(place))
    dvc(first, "push")
    dvc(tmp_path, "clone", "--trust", str(place), "second")
    start = parsed(first, "log")["items"][-1]["oid"]
    for project in (first, tmp_path / "second"):
        dvc(project, "resume", "--trust", start)
        shown = dvc(project, "push").stdout
        assert "[kept]" in shown and "rejected" not in shown
        for verb in ("fetch", "pull", "push"):
            assert "rejected" not in dvc(project, verb).stdout
    dvc(tmp_path / "second", "tag", "best")
    dvc(first, "tag", "best", "HEAD~1")
    dvc(first, "push")
    for verb in ("fetch", "pull"):
        assert "fetch --force" in dvc(tmp_path / "second", verb, rc=4).stderr
    assert "push --force" in dvc(tmp_path / "second", "push", "--tags", rc=4).stderr
    dvc(tmp_path / "second", "fetch", "--force")
    dvc(tmp_path / "second", "pull")


def test_branches_of_a_remote_are_listed_and_deleted(tmp_path: Path, shared: tuple[Path, str]) -> None:
    _, address = shared
    first = tmp_path / "first"
    commit(first, "x", "1")
    dvc(first, "branch", "work")
    dvc(first, "remote", "add", "origin", address)
    dvc(first, "push", "--all")
    listed = dvc(first, "branch", "-a").stdout
    assert "remotes/origin/work" in listed and "* main" in listed
    assert dvc(first, "branch", "-r").stdout.split()[0] == "origin/main"
    dvc(first, "push", "--delete", "origin", "work")
    assert "work" not in dvc(first, "branch", "-r").stdout
    assert "origin/main" in dvc(first, "log", "--oneline").stdout


def test_a_host_that_is_not_there_and_a_place_that_is_none_are_said(tmp_path: Path) -> None:
    commit(tmp_path / "first", "x", "1")
    for address, text in (
        ("nowhere:work", "resolve hostname"),
        (f"host:{tmp_path}/none", "repository"),
        (str(tmp_path / "none"), "nothing at"),
    ):
        dvc(tmp_path / "first", "remote", "remove", "origin", rc=None)
        dvc(tmp_path / "first", "remote", "add", "origin", address)
        for verb in ("fetch", "push", "pull"):
            failed = dvc(tmp_path / "first", verb, rc=7)
            assert text in failed.stderr and len(failed.stderr.splitlines()) == 2, failed.stderr
    assert "remote add origin" in dvc(tmp_path / "first", "fetch", "upstream", rc=3).stderr.replace("upstream", "origin")


def test_a_living_session_is_brought_forward_by_a_pull_from_a_terminal(tmp_path: Path) -> None:
    first = tmp_path / "first"
    commit(first, "x", "1")
    dvc(tmp_path, "clone", str(first), "second")
    commit(first, "x", "[1, 2, 3]")
    program = (
        "import dartvc, sys\nnames = {'__name__': 'work'}\nsession = dartvc.attach(names)\nsession.restore(session.head)\n"
        "print('ready', flush=True)\nsys.stdin.readline()\nprint(names['x'], flush=True)\n"
    )
    living = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path / "second",
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert living.stdin is not None and living.stdout is not None
    assert living.stdout.readline() == "ready\n"
    pulled = dvc(tmp_path / "second", "pull")
    assert "restored: x" in pulled.stdout, pulled.stdout + pulled.stderr
    out, _ = living.communicate("go\n", timeout=60)
    assert out == "[1, 2, 3]\n"


@pytest.mark.parametrize("maker", ["dvc-state", "git"])
def test_a_bundle_carries_states_where_no_network_goes(tmp_path: Path, maker: str) -> None:
    first = tmp_path / "first"
    commit(first, "x", "list(range(5000))")
    commit(first, "x", "2")
    bundle = tmp_path / "all.bundle"
    if maker == "git":
        subprocess.run(["git", "--git-dir", str(first / ".dvc-state"), "bundle", "create", "-q", str(bundle), "--all", "HEAD"], check=True)
    else:
        dvc(first, "bundle", "create", str(bundle))
    assert "refs/heads/main" in dvc(first, "bundle", "list", str(bundle)).stdout
    dvc(tmp_path, "clone", "all.bundle", "second")
    assert messages(tmp_path / "second") == messages(first)
    dvc(tmp_path / "second", "fsck")
    commit(first, "y", "3")
    more = tmp_path / "more.bundle"
    dvc(first, "bundle", "create", str(more), "HEAD~1..main")
    assert more.stat().st_size < bundle.stat().st_size
    empty = tmp_path / "empty"
    dvc(tmp_path, "init", str(empty))
    assert "not here" in dvc(empty, "bundle", "verify", str(more), rc=7).stderr
    dvc(tmp_path / "second", "bundle", "verify", str(more))
    dvc(tmp_path / "second", "remote", "add", "stick", str(more))
    dvc(tmp_path / "second", "fetch", "stick")
    assert messages(tmp_path / "second", "stick/main") == messages(first)


def test_a_damaged_bundle_is_named(tmp_path: Path) -> None:
    first = tmp_path / "first"
    commit(first, "x", "bytes(50000)")
    bundle = tmp_path / "all.bundle"
    dvc(first, "bundle", "create", str(bundle))
    content = bundle.read_bytes()
    bundle.write_bytes(content[:-100])
    dvc(first, "bundle", "verify", str(bundle), rc=7)
    dvc(tmp_path, "clone", "all.bundle", "second", rc=7)
    assert not (tmp_path / "second").exists()
    bundle.write_bytes(b"something else")
    dvc(first, "bundle", "verify", str(bundle), rc=1)


def test_commits_of_another_machine_arrive_untrusted(tmp_path: Path) -> None:
    first = tmp_path / "first"
    commit(first, "x", "1", XDG_CONFIG_HOME=str(tmp_path / "elsewhere"))
    dvc(tmp_path, "clone", str(first), "second")
    load = [sys.executable, "-c", "import dartvc; print(dartvc.open().load())"]
    refused = subprocess.run(load, cwd=tmp_path / "second", env=environment(), capture_output=True, text=True, timeout=60)
    assert "UntrustedError" in refused.stderr
    dvc(tmp_path / "second", "fetch", "--trust")
    loaded = subprocess.run(load, cwd=tmp_path / "second", env=environment(), capture_output=True, text=True, timeout=60)
    assert loaded.stdout == "{'x': 1}\n", loaded.stderr


WRITER = """
import sys
import dartvc
repo = dartvc.open()
names = {"__name__": "__main__", "rows": []}
for step in range(40):
    names["rows"].append(step)
    repo.commit(names, f"step {step}")
    repo.history.database.consolidate()
    print(step, flush=True)
"""


@pytest.mark.parametrize("way", ["fetch", "push"])
def test_exchanges_beside_a_writer_see_whole_histories_only(tmp_path: Path, way: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    commit(first, "x", "1")
    dvc(tmp_path, "clone", str(first), "second")
    dvc(first, "remote", "add", "origin", str(second))
    writer = subprocess.Popen([sys.executable, "-c", WRITER], cwd=first, env=environment(), stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    exchanges = 0
    while writer.stdout.readline():
        dvc(*((second, "fetch") if way == "fetch" else (first, "push", "origin", "main:inbox")))
        exchanges += 1
        there = "origin/main" if way == "fetch" else "inbox"
        assert messages(second, there)[-1] == "x=1"
        if exchanges == 6:
            break
    writer.communicate(timeout=60)
    dvc(*((second, "fetch") if way == "fetch" else (first, "push", "origin", "main:inbox")))
    assert messages(second, "origin/main" if way == "fetch" else "inbox") == messages(first)
    for place in (first, second):
        dvc(place, "fsck")
