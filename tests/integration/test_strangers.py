"""A repository from a stranger whose payloads are traps: every command that looks runs none of it, every restore refuses."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from xxhash import xxh3_128_digest

from dartvc.history import Repository
from dartvc.history.operations import RefMove
from dartvc.model import ChunkRef, CommitKind, Digest, Payload, StagedCommit, StagedName
from dartvc.store import Head


class Trap:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A project whose repository was made with another machine's key."""
    repository = Repository.init(tmp_path / "project", key_path=tmp_path / "their-key", trust_path=tmp_path / "their-trust")
    writer = repository.writer()
    parent = None
    for step in range(3):
        stream = pickle.dumps({"x": Trap(tmp_path / "SPRUNG"), "step": step}, 5) + bytes(4)
        payload = Payload(("x",), (ChunkRef(Digest(xxh3_128_digest(stream)), len(stream), stream),))
        name = StagedName("x", {"type": "int", "repr": str(step)}, payload)
        staged = StagedCommit(f"step {step}", CommitKind.MANUAL, 1.7e9 + step, 0, code="x = 1", changed=(name,), added=() if step else ("x",))
        parent = writer.write(staged, (parent,) if parent else ())
    writer.publish()
    repository.move_refs([RefMove("refs/heads/main", None, parent)], operation="commit", description="theirs", head=Head("refs/heads/main", parent))
    return tmp_path / "project"


LOOKING = (
    ["status"], ["log"], ["log", "--graph", "--all"], ["log", "-p"], ["log", "--json"], ["log", "--where", "x > 0"], ["show"], ["show", "HEAD:x"],
    ["diff"], ["diff", "HEAD~2", "HEAD"], ["ls"], ["blame"], ["branch"], ["tag"], ["bisect", "run", "--expr", "x > 0"], ["op", "log"], ["du"],
    ["fsck"], ["fsck", "--loadable"], ["doctor"], ["config"], ["gc", "--dry-run"], ["tag", "seen"], ["checkout", "HEAD~1"],
)  # fmt: skip
REFUSING = ("import dartvc; dartvc.open('.').load()", "import dartvc; dartvc.open('.').checkout('HEAD', {'__name__': '__main__'})")


EXCHANGING = (
    ["remote"], ["remote", "-v"], ["remote", "add", "more", "host:x"], ["remote", "set-url", "origin", "host:y"], ["remote", "rename", "origin", "o"],
    ["remote", "remove", "origin"], ["fetch"], ["fetch", "--all"], ["fetch", "path"], ["fetch", "helper"], ["fetch", "--trust", "path"], ["pull"],
    ["pull", "path", "main"], ["push"], ["push", "path", "main:inbox"], ["push", "--all", "bare"], ["push", "--force", "origin", "main"],
    ["branch", "-a"], ["status"], ["bundle", "create", "x.bundle"], ["bundle", "verify", "trap.bundle"], ["bundle", "list", "trap.bundle"],
    ["clone", ".", "copy"], ["clone", "trap.bundle", "copy"], ["clone", "host:ROOT", "copy"], ["resume"], ["runs"],
)  # fmt: skip
FAKE_SSH = Path(__file__).with_name("fake_ssh.sh")


def set_traps(stranger: Path) -> None:
    """Puts what git could be made to run into a repository: its configuration, its hooks, its alternates; and remotes that use it."""
    spring = f"touch {stranger.parent / 'SPRUNG'}"
    repository = stranger / ".dvc-state"
    bundle = ["git", "--git-dir", str(repository), "bundle", "create", "-q", str(stranger / "trap.bundle"), "--all"]
    subprocess.run(bundle, check=True, capture_output=True)
    bare = stranger.parent / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repository), str(bare)], check=True, capture_output=True)
    (stranger.parent / "more.config").write_text(f"[core]\n\tsshCommand = {spring};\n")
    traps = f"""
[core]
\tsshCommand = {spring};
\tgitProxy = {spring}
\thooksPath = {repository}/hooks
\tfsmonitor = {spring}
\taskPass = {spring}
\tpager = {spring}
\teditor = {spring}
\talternateRefsCommand = {spring};
[credential]
\thelper = "!{spring};"
[uploadpack]
\tpackObjectsHook = {spring};
[include]
\tpath = {stranger.parent}/more.config
[protocol "ext"]
\tallow = always
[url "ext::sh -c '{spring}' "]
\tinsteadOf = host:
[remote "origin"]
\turl = host:{stranger}
\tuploadpack = {spring};
\treceivepack = {spring};
[remote "helper"]
\turl = "ext::sh -c '{spring}'"
[remote "path"]
\turl = {stranger}
\tvcs = ext
[remote "bare"]
\turl = {bare}
[branch "main"]
\tremote = origin
\tmerge = refs/heads/main
"""
    for place in (repository, bare):
        with open(place / "config", "a") as config:
            config.write(traps)
        (place / "hooks").mkdir(exist_ok=True)
        for name in ("reference-transaction", "pre-push", "post-update", "pre-receive", "update", "post-receive", "post-checkout", "post-merge"):
            hook = place / "hooks" / name
            hook.write_text(f"#!/bin/sh\n{spring}\n")
            hook.chmod(0o755)
    (repository / "objects" / "info").mkdir(exist_ok=True)
    (repository / "objects" / "info" / "alternates").write_text(f"{bare}/objects\n")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("words", EXCHANGING, ids=" ".join)
def test_exchanging_runs_nothing(stranger: Path, words: list[str]) -> None:
    set_traps(stranger)
    calm = stranger.parent / "calm"
    Repository.init(calm)  # what stands behind "host:" is of a friend, for a server runs its own hooks
    words = [word.replace("ROOT", str(calm)) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words],
        cwd=stranger, env={**environment(stranger.parent), "GIT_SSH_COMMAND": str(FAKE_SSH)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert not (stranger.parent / "SPRUNG").exists(), done.stderr


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_looking_runs_nothing(stranger: Path, words: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words],
        cwd=stranger, env=environment(stranger), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert not (stranger.parent / "SPRUNG").exists()


@pytest.mark.parametrize("code", REFUSING)
def test_restoring_refuses(stranger: Path, code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=stranger, env=environment(stranger), capture_output=True, text=True, check=False, timeout=60)
    assert "UntrustedError" in done.stderr
    assert not (stranger.parent / "SPRUNG").exists()


def test_even_with_trust_a_command_is_not_run(stranger: Path) -> None:
    code = "import dartvc; dartvc.open('.').load(trust=True)"
    done = subprocess.run([sys.executable, "-c", code], cwd=stranger, env=environment(stranger), capture_output=True, text=True, check=False, timeout=60)
    assert "would call posix.system" in done.stderr
    assert not (stranger.parent / "SPRUNG").exists()


def test_a_fresh_session_does_not_restore_it(stranger: Path) -> None:
    pytest.importorskip("IPython")
    (stranger / ".dvc-state" / "restore-next").write_text("")
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance(); shell.run_cell('%load_ext dartvc', silent=True); print('x' in shell.user_ns)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=stranger, env=environment(stranger), capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip().endswith("False"), done.stderr
    assert "another machine" in done.stderr
    assert not (stranger.parent / "SPRUNG").exists()
