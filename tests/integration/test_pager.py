"""Long output through a pager, seen from a real terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dartvc

COMMAND = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())"]
TAGGING = "sed 's/^/PAGED /'"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with forty commits."""
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {}
    for number in range(40):
        namespace["x"] = number
        repository.commit(namespace, f"step {number}", wait=number == 39)
    return tmp_path


def on_terminal(project: Path, *words: str, interrupted: Path | None = None, **environment: str) -> tuple[int, str]:
    """Runs a command on a pseudo terminal; returns its exit code and what the terminal showed.

    It is interrupted when the pager has said READY; the pager waits for what is written into the pipe ``interrupted`` then.
    """
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("PAGER", "DVC_STATE_PAGER", "LESS", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=project, stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, "TERM": "xterm", **environment}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux: the last writer has closed its end
            break
        if not piece:
            break
        shown += piece
        if interrupted is not None and b"READY" in shown:
            process.send_signal(signal.SIGINT)
            interrupted.write_text("go\n")
            interrupted = None
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("words", [["log"], ["log", "--oneline"], ["show"], ["diff"], ["ls"], ["blame"], ["op", "log"], ["branch"]], ids=" ".join)
def test_what_lists_is_read_in_the_pager_with_its_colours(project: Path, words: list[str]) -> None:
    code, shown = on_terminal(project, *words, PAGER=TAGGING)
    assert code == 0
    assert shown
    assert all(line.startswith("PAGED ") for line in shown.splitlines())
    if words[0] == "log":
        assert "\x1b[33m" in shown


def test_the_order_is_the_own_variable_then_the_setting_then_the_common_one(project: Path) -> None:
    assert on_terminal(project, "config", "core.pager", "sed 's/^/SET /'")[0] == 0
    assert on_terminal(project, "log", "-n", "1", PAGER=TAGGING)[1].startswith("SET ")
    assert on_terminal(project, "log", "-n", "1", PAGER=TAGGING, DVC_STATE_PAGER="sed 's/^/OWN /'")[1].startswith("OWN ")
    assert "core.pager=sed" in on_terminal(project, "config")[1]


def test_a_pager_that_a_stranger_s_repository_brings_along_is_not_run(project: Path) -> None:
    settings = dartvc.open(project).history.config
    settings.set("core.pager", "touch hit; cat")
    code, shown = on_terminal(project, "log", "-n", "1", PAGER=TAGGING)
    assert code == 0
    assert "is not run" in shown
    assert "PAGED " in shown
    settings.update({"core.pager": "touch hit; cat", "core.pagerSeal": "AAAAAAAAAAAAAAAAAAAAAA"})
    on_terminal(project, "log", "-n", "1", PAGER=TAGGING)
    assert on_terminal(project, "config", "core.pager", "sed 's/^/SET /'")[0] == 0
    settings.set("core.pager", "touch hit; cat")
    on_terminal(project, "log", "-n", "1", PAGER=TAGGING)
    assert not (project / "hit").exists()


@pytest.mark.parametrize("before", [["--no-pager"], ["-C", ".", "--no-pager"], ["--no-pager", "--session", ""]], ids=" ".join)
def test_no_pager_before_the_verb_prints_directly(project: Path, before: list[str]) -> None:
    code, shown = on_terminal(project, *before, "log", "-n", "2", PAGER=TAGGING)
    assert code == 0
    assert "PAGED" not in shown
    assert "step 39" in shown


@pytest.mark.parametrize("environment", [{"PAGER": "cat"}, {"PAGER": ""}, {"DVC_STATE_PAGER": "", "PAGER": TAGGING}], ids=str)
def test_cat_and_an_empty_choice_mean_none(project: Path, environment: dict[str, str]) -> None:
    code, shown = on_terminal(project, "log", "-n", "1", interrupted=None, **environment)
    assert code == 0
    assert shown.startswith("\x1b[33mcommit ")


def test_a_pager_that_is_missing_is_named_and_the_output_is_there(project: Path) -> None:
    code, shown = on_terminal(project, "log", "-n", "1", PAGER="no-such-pager")
    assert code == 0
    assert "the pager no-such-pager cannot be run" in shown
    assert "step 39" in shown


def test_less_may_be_missing_without_a_word(project: Path) -> None:
    code, shown = on_terminal(project, "log", "-n", "1", PATH="/nonexistent")
    assert code == 0
    assert shown.startswith("\x1b[33mcommit ")


@pytest.mark.parametrize("pager", ["head -n 1", "true", "exit 3"])
@pytest.mark.parametrize("words", [["log"], ["log", "--graph", "--all"], ["op", "log"]], ids=" ".join)
def test_a_reader_who_leaves_early_leaves_no_traceback(project: Path, pager: str, words: list[str]) -> None:
    code, shown = on_terminal(project, *words, PAGER=pager)
    assert code in (0, 141)
    assert "Traceback" not in shown
    assert "Exception ignored" not in shown


def test_less_is_told_to_leave_short_output_on_the_screen_unless_the_user_has_options(project: Path) -> None:
    assert on_terminal(project, "log", "-n", "1", PAGER="echo $LESS; cat")[1].startswith("FRX\n")
    assert on_terminal(project, "log", "-n", "1", PAGER="echo $LESS; cat", LESS="R")[1].startswith("R\n")


def test_an_error_needs_no_pager_and_keeps_its_exit_code(project: Path) -> None:
    code, shown = on_terminal(project, "show", "nothing", PAGER=TAGGING)
    assert code == 3
    assert shown.startswith("error:")


def test_what_does_not_list_is_not_paged(project: Path) -> None:
    assert "PAGED" not in on_terminal(project, "status", PAGER=TAGGING)[1]
    assert "PAGED" not in on_terminal(project, "log", "--help", PAGER=TAGGING)[1]


def test_an_interrupt_waits_for_the_pager(project: Path) -> None:
    pipe = project / "pipe"
    os.mkfifo(pipe)
    code, shown = on_terminal(project, "log", interrupted=pipe, PAGER="trap '' INT; echo READY; read line < pipe; sed 's/^/PAGED /'; echo DONE")
    assert code in (0, 130)
    assert shown.endswith("DONE\n")
    assert "Traceback" not in shown


def test_a_pipe_is_not_paged(project: Path) -> None:
    done = subprocess.run([*COMMAND, "log"], cwd=project, capture_output=True, text=True, env={**os.environ, "PAGER": TAGGING})
    assert done.returncode == 0
    assert "PAGED" not in done.stdout
