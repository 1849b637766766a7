"""The seed of str hashes is told, or guessed, before anything is imported; a guess that is wrong or damaged does no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.cli import seed

SCRIPT = "import os\nprint(os.environ['PYTHONHASHSEED'], os.environ.get('STARTS'))\n"


def command(*words: str, cwd: Path) -> str:
    """Runs a command line without a seed and returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    done = subprocess.run([sys.executable, "-m", "dartvc", *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seeds_of_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Returns the seeds with which a command line would begin Python again at once."""
    asked: list[str] = []
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seed, "begin_again", asked.append)
    seed.begin_again_early(words)
    return asked


def test_a_resume_goes_on_with_the_seed_of_its_run_whatever_ran_since(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SCRIPT)
    first = command("run", "program.py", cwd=tmp_path)
    start = json.loads(command("log", "--json", cwd=tmp_path))["items"][-1]["oid"]
    assert (tmp_path / ".dvc-state" / "hash-seed").read_text() == first.split()[0]
    assert command("run", "program.py", cwd=tmp_path) != first
    for _ in range(2):  # a guess that is wrong, then one that is right
        assert command("resume", start, cwd=tmp_path) == first
        assert (tmp_path / ".dvc-state" / "hash-seed").read_text() == first.split()[0]


def test_a_run_takes_a_new_seed_at_once_and_one_with_reuse_leaves_it_to_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seeds_of_starts(tmp_path, monkeypatch, "run", "program.py") == [""]
    assert seeds_of_starts(tmp_path, monkeypatch, "run", "--reuse", "program.py") == []


def test_a_resume_guesses_only_what_was_noted_and_can_be_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / ".dvc-state"
    assert seeds_of_starts(tmp_path, monkeypatch, "resume") == []
    repository.mkdir()
    (repository / "HEAD").write_text("ref: refs/heads/main\n")
    for damaged in ("", "random", "-1", "4294967296", "9" * 40, "9" * 5000, "１"):
        (repository / "hash-seed").write_text(damaged)
        assert seeds_of_starts(tmp_path, monkeypatch, "resume") == []
    seed.note_last(repository, "77")
    (tmp_path / "inner").mkdir()
    assert seeds_of_starts(tmp_path / "inner", monkeypatch, "resume", "HEAD") == ["77"]


def test_a_seed_that_python_was_told_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setattr(seed, "begin_again", lambda wanted: pytest.fail(f"begins again with {wanted}"))
    seed.begin_again_early(["run", "program.py"])
