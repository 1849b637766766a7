"""Command lines in the cells of a living shell: what they answer, what they raise, and what they leave alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("IPython")

DRIVER = """
import json, os, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
config = Config(); config.HistoryManager.enabled = False; config.InteractiveShell.colors = "nocolor"
shell = InteractiveShell.instance(config=config)
with capture_output():
    shell.run_cell("%load_ext dartvc", silent=True)
for code in json.loads(sys.argv[1]):
    with capture_output() as caught:
        result = shell.run_cell(code, store_history=True)
    error = result.error_before_exec or result.error_in_exec
    kind = type(error).__name__ if error is not None else ""
    print(json.dumps({"pid": os.getpid(), "out": caught.stdout, "err": caught.stderr, "error": kind, "text": str(error or "")}), flush=True)
"""


def cells(folder: Path, *codes: str) -> list[dict[str, Any]]:
    """Runs cells in one shell of a folder; returns what each printed and raised."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    environment.pop("PYTHONHASHSEED", None)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(codes)], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(codes)
    return answers


def test_what_would_take_the_process_is_refused_and_the_names_live_on(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('ran')\n")
    *refused, helped, after = cells(
        tmp_path, "x = 5", "%dvc_state run train.py", "%dvc_state run train.py --help",
        "%dvc_state shell", "%dvc_state -q shell HEAD -c 'print(x)'", "%dvc_state --no-pager resume HEAD",
        "%dvc_state run --help", "print(x)",
    )  # fmt: skip
    assert not refused[0]["error"]
    for each, hint in zip(
        refused[1:],
        ("!dvc-state run train.py", "!dvc-state run train.py --help", "dvc-state shell, in a terminal", "!dvc-state shell HEAD -c 'print(x)'", "!dvc-state resume HEAD"),
        strict=True,
    ):
        assert (each["error"], each["text"]) == ("UsageError", f"a program is run from a terminal\n  {hint}")
    assert not helped["error"] and "--every" in helped["out"]
    assert after["out"] == "5\n" and after["pid"] == refused[0]["pid"]


def test_an_error_comes_once_with_its_hint_after_what_was_said_before_it(tmp_path: Path) -> None:
    _, unknown, unquoted, detached = cells(tmp_path, "x = 5", "%dvc_state show HEAD:y", "%dvc_state diff -- 'x", "%dvc_state fsck")
    assert unknown["error"] == "UsageError" and unknown["text"].splitlines()[0].startswith("'y' is not in ")
    assert "dvc-state ls" in unknown["text"].splitlines()[1]
    assert unknown["out"].count("is not in") + unknown["err"].count("is not in") == 1  # IPython's own line
    assert unquoted["error"] == "UsageError" and unquoted["text"] == "No closing quotation: quote the words as in a shell"
    assert not detached["error"]


def test_positions_in_the_log_are_not_variables_and_variables_are(tmp_path: Path) -> None:
    *_, there, named, looped, called = cells(
        tmp_path, "x = 5", "x = 6", "name = 'x'",
        "%dvc_state show @{1}:x", "%dvc_state show HEAD~1:{name}", "for back in (2, 1):\n    %dvc_state show HEAD~{back}:{name}",
        "def look(place):\n    %dvc_state show HEAD~$place:x\nlook(3)",
    )  # fmt: skip
    assert there["out"] == "x  int 6\n" == named["out"], (there, named)
    assert looped["out"] == "x  int 5\nx  int 6\n", looped
    assert called["out"] == "x  int 5\n", called


def test_what_a_line_brings_back_is_in_its_commit_and_in_those_after_it(tmp_path: Path) -> None:
    *_, restored, _, held, picked, after = cells(
        tmp_path, "w = [1] * 5", "w = [2] * 3", "%dvc_state restore w --from HEAD~1", "other = 1",
        "%dvc_state show HEAD:w", "%dvc_state checkout HEAD~2 -- w\nw", "%dvc_state show HEAD:w",
    )  # fmt: skip
    assert "restored: w" in restored["out"]
    assert held["out"].startswith("w  list") and "[1, 1, 1, 1, 1]" in held["out"], held
    assert "[2, 2, 2]" in picked["out"] and "[2, 2, 2]" in after["out"], (picked, after)


def test_what_a_cell_did_before_a_line_of_it_is_committed_first(tmp_path: Path) -> None:
    *_, restored, before, moved, again = cells(
        tmp_path, "w = [1]", "w.append(2)\ndef grow(): w.append(10)", "w.append(9); grow()\n%dvc_state restore w --from HEAD~1\nprint(w)",
        "%dvc_state show HEAD~2:w", "w.append(4)\n%dvc_state checkout HEAD~1\nprint(w)", "%dvc_state show main:w",
    )  # fmt: skip
    assert restored["out"].endswith("[1]\n") and "[1, 2, 9, 10]" in before["out"], (restored, before)
    assert "[1, 4]" in again["out"], (moved, again)


def test_a_branch_that_somebody_else_moved_is_left_with_a_word(tmp_path: Path) -> None:
    *_, told, after = cells(
        tmp_path, "x = 1", "x = 2", "import subprocess", "%dvc_state status",
        "git = subprocess.run(['git', '--git-dir', '.dvc-state', 'update-ref', 'refs/heads/main', 'refs/heads/main~2']).returncode", "%dvc_state status", "x",
    )  # fmt: skip
    assert "dartvc: main was moved by another session: the commits of this one go to main-" in told["err"], told
    assert "was moved" not in after["err"]


def test_a_command_for_another_directory_acts_on_its_repository_and_not_on_the_session(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, made, _, elsewhere, absent, here, same, log = cells(
        tmp_path, "x = 5", "%dvc_state -C other init", "%dvc_state -C other config dartvc.keepLast 7", "%dvc_state -C other config dartvc.keepLast",
        "%dvc_state -C / log", "%dvc_state config dartvc.keepLast", "%dvc_state -C . config dartvc.keepLast", "%dvc_state -C . log --oneline",
    )  # fmt: skip
    assert not made["error"] and (tmp_path / "other" / ".dvc-state").is_dir()
    assert (elsewhere["out"], here["out"], same["out"]) == ("7\n", "1000\n", "1000\n")
    assert absent["error"] and "x = 5" in log["out"]
