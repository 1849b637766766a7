"""Completion, asked by real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dartvc
from dartvc.cli import completion_table
from dartvc.cli.completion import SHELLS, complete, script_of, words_of
from dartvc.cli.tabling import table

MAIN = "import sys; from dartvc.cli.entry import main; sys.exit(main())"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two branches, a tag, a run, a remote and odd names; the working directory is there."""
    folder = tmp_path / "project"
    repository = dartvc.init(folder)
    repository.commit({"alpha": 1, "loss": 0.5}, "first")
    oid = repository.commit({"alpha": 2, "loss": 0.25, "$(touch hit)": 1, "with space": 2}, "second").oid
    repository.branch("experiment")
    repository.tag("best", "HEAD~1")
    repository.history.database.refs.move("refs/runs/20260101-abcd", oid, expected=None)
    repository.history.config.set("remote.origin.url", "elsewhere")
    monkeypatch.chdir(folder)
    return folder


def offered(line: str, breaks: str = "") -> list[str]:
    return complete([line, breaks]).splitlines()


def test_the_table_is_what_the_application_has() -> None:
    written = Path(completion_table.__file__).read_text(encoding="utf-8")
    assert written == table(), "python -m dartvc.cli.tabling > dartvc/cli/completion_table.py"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dvc-state che", ["checkout", "cherry-pick"]),
        ("dvc-state op ", ["log", "restore"]),
        ("dvc-state stash ", ["drop", "list", "pop"]),
        ("dvc-state --no-p", ["--no-pager"]),
        ("dvc-state log --v", ["--var"]),
        ("dvc-state checkout ", ["20260101-abcd", "HEAD", "best", "experiment", "main"]),
        ("dvc-state --no-pager show ex", ["experiment"]),
        ("dvc-state show main:", ["main:alpha", "main:loss"]),
        ("dvc-state show main~1:a", ["main~1:alpha"]),
        ("dvc-state show @{", ["@{0}", "@{1}"]),
        ("dvc-state show main@{", ["main@{0}", "main@{1}"]),
        ("dvc-state log main..e", ["main..experiment"]),
        ("dvc-state log --var ", ["alpha", "loss"]),
        ("dvc-state log --var=l", ["--var=loss"]),
        ("dvc-state diff HEAD~1 -- a", ["alpha"]),
        ("dvc-state restore ", ["alpha", "loss"]),
        ("dvc-state restore l --from b", ["best"]),
        ("dvc-state blame ", ["alpha", "loss"]),
        ("dvc-state switch e", ["experiment"]),
        ("dvc-state tag -d ", ["best"]),
        ("dvc-state resume 2026", ["20260101-abcd"]),
        ("dvc-state config dartvc.u", ["dartvc.undoWindow"]),
        ("dvc-state config core.p", ["core.pager"]),
        ("dvc-state fetch ", ["origin"]),
        ("dvc-state push origin ex", ["experiment"]),
        ("cd x && FOO=1 dvc-state switch e", ["experiment"]),
        ("dvc-state log; dvc-state switch e", ["experiment"]),
        ("/usr/bin/dvc-state switch 'e", ["experiment"]),
        ("dvc-state run tra", []),
        ("dvc-state nothing ", []),
        ("dvc-state -C", ["-C"]),
        ("dvc-state -C ", []),
    ],
)
def test_what_is_offered(project: Path, line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_names_that_a_shell_would_run_are_not_offered(project: Path) -> None:
    assert offered("dvc-state restore ") == ["alpha", "loss"]


def test_the_repository_is_that_of_the_directory_given(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered("dvc-state switch ") == []
    assert offered("dvc-state -C project switch e") == ["experiment"]


def test_a_damaged_repository_offers_nothing(project: Path) -> None:
    for pack in (project / ".dvc-state" / "objects" / "pack").iterdir():
        pack.unlink()
    assert offered("dvc-state show main:") == []
    (project / ".dvc-state" / "HEAD").write_text("?")
    assert offered("dvc-state show @{") == []


@pytest.mark.parametrize("line", ["dvc-state show '", 'dvc-state show "ma', "dvc-state show \\", "dvc-state show a\\ b", "dvc-state  ''  x"])
def test_unfinished_quoting_is_no_error(line: str) -> None:
    assert isinstance(words_of(line), list)
    complete([line, ""])


def run_bash(project: Path, script: str) -> str:
    program = project.parent / "bin" / "dvc-state"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!{sys.executable}\n{MAIN}\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=project, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dvc-state switch e", ["experiment"]),
        ("dvc-state show main:", ["alpha", "loss"]),
        ("dvc-state show HEAD~1:al", ["alpha"]),
        ("dvc-state show main@{", ["{0}", "{1}"]),
        ("dvc-state log --var=l", ["loss"]),
        ("dvc-state run tra", []),
    ],
)
def test_bash_gets_the_rest_of_the_word_that_it_sees(project: Path, line: str, expected: list[str]) -> None:
    ask = f"""source <(dvc-state completion bash); complete -p dvc-state >/dev/null
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _dvc_state; printf '%s\\n' "${{COMPREPLY[@]}}" """
    assert run_bash(project, ask).split() == expected


def test_every_shell_has_its_script_and_another_is_refused(project: Path) -> None:
    for shell in SHELLS:
        assert run_bash(project, f"dvc-state completion {shell}") == script_of(shell)
    assert "compdef _dvc_state dvc-state" in script_of("zsh")
    assert "complete -c dvc-state" in script_of("fish")
    assert run_bash(project, "dvc-state completion tcsh 2>&1; echo $?").splitlines()[-1] == "2"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_that_is_here_reads_its_script(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on this machine")
    (tmp_path / "script").write_text(script_of(shell))
    subprocess.run([program, "-n", str(tmp_path / "script")], check=True)


def test_a_tab_loads_neither_typer_nor_what_the_answer_does_not_need(project: Path) -> None:
    heavy = ("typer", "click", "rich", "pygit2", "numpy", "dill", "json", "subprocess")
    code = f"""import sys
sys.argv = ["dvc-state", "__complete", "dvc-state show main:", ""]
from dartvc.cli.entry import main
main()
print([name for name in {heavy!r} if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["main:alpha", "main:loss", "[]"]
