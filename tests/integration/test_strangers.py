"""A repository from a stranger whose payloads are traps: every command that looks runs none of it, every restore refuses."""

from __future__ import annotations

import os
import pickle
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
