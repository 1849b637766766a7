"""``%dvc_state reuse on``: what cells do a second time is answered, in this shell and in later ones, and can be switched off again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dartvc.cli import entry

pytest.importorskip("IPython")

from tests.integration.test_commands_in_cells import cells

SLOW = "def slow(k):\n    total = 0\n    for i in range(1_000_000): total += i % 7\n    print('computed', k)\n    return total * k\n"


def outputs(folder: Path, *codes: str) -> list[str]:
    """Runs cells; returns what each printed."""
    answers = cells(folder, *codes)
    assert not any(each["error"] for each in answers), answers
    return [each["out"] for each in answers]


def status(text: str) -> tuple[int, int]:
    """Returns (answered, calls) from a line of ``reuse``."""
    words = text.split(": ", 1)[1].split()
    return int(words[0]), int(words[2])


def test_a_call_is_answered_with_its_output_and_a_changed_helper_runs_again(tmp_path: Path) -> None:
    define = SLOW.replace("total * k", "total * k * factor()") + "x = slow(2)"
    found = outputs(
        tmp_path, "%dvc_state reuse on", "def factor(): return 2", define, "x = slow(2)\nprint(x)",
        "%dvc_state reuse", "def factor(): return 3", "x = slow(2)\nprint(x)", "%dvc_state reuse status",
    )  # fmt: skip
    assert found[0] == "reuse is on: 0 of 0 calls answered, 0.0 s saved\n"
    assert found[3].splitlines()[0] == found[2].strip() == "computed 2"
    assert int(found[6].split()[2]) * 2 == int(found[3].split()[2]) * 3
    assert status(found[4])[0] == status(found[7])[0] == 1


def test_functions_of_before_are_answered_and_off_is_off(tmp_path: Path) -> None:
    call, on = "slow(2);", "%dvc_state reuse on"
    found = outputs(tmp_path, SLOW, on, call, call, "%dvc_state reuse off", call, on, call, "%dvc_state reuse")
    assert [each.strip() for each in (found[2], found[3], found[5], found[7])] == ["computed 2"] * 4
    assert status(found[4]) == (1, 2)
    assert status(found[8]) == (2, 3)


def test_another_shell_is_answered_too(tmp_path: Path) -> None:
    outputs(tmp_path, "%dvc_state reuse on", SLOW, "x = slow(5)")
    found = outputs(tmp_path, "%dvc_state reuse on", SLOW, "x = slow(5)", "print(x)", "%dvc_state reuse")
    assert found[2] == "computed 5\n"
    assert status(found[4]) == (1, 1)


def test_what_shows_something_runs_each_time(tmp_path: Path) -> None:
    define = SLOW.replace("print('computed', k)", "display(k)")
    found = outputs(tmp_path, "%dvc_state reuse on", "from IPython.display import display\n" + define + "slow(7);", "slow(7);", "%dvc_state reuse")
    assert status(found[3])[0] == 0


def test_output_that_was_redirected_is_redirected_again(tmp_path: Path) -> None:
    text = "import contextlib, io\nfor turn in range(2):\n    with contextlib.redirect_stdout(io.StringIO()) as caught: slow(3)\n"
    text += "    print(repr(caught.getvalue()), vars(caught))"
    found = outputs(tmp_path, "%dvc_state reuse on", SLOW, text, "%dvc_state reuse")
    assert found[2].splitlines() == ["'computed 3\\n' {}"] * 2
    assert status(found[3]) == (1, 2)


def test_functions_are_committed_as_they_were_written(tmp_path: Path) -> None:
    shown = "import inspect\nprint(inspect.getsource(slow), slow(1) * 2 == x)"
    answers = cells(
        tmp_path, "%dvc_state reuse on", SLOW + "x = slow(2)", "%dvc_state tag there", "%dvc_state reuse off", "del slow, x", "%dvc_state checkout there", shown
    )
    assert not any("made again" in each["err"] or each["error"] for each in answers), answers
    assert "def slow(k):" in answers[-1]["out"] and answers[-1]["out"].endswith("True\n")


def test_what_a_kernel_holds_is_counted_and_cells_are_called_by_their_numbers(tmp_path: Path) -> None:
    found = outputs(tmp_path, "%dvc_state reuse on", SLOW, "slow(2);\nslow(2);\nslow(3);", "%dvc_state cache stats", "%dvc_state cache explain slow")
    stats = found[3].splitlines()
    assert "0 B" in stats[1] or "stored" in stats[1]
    assert "; 2 in the kernel's memory, " in stats[1]
    assert stats[2].endswith("slow (In[2]:1)")
    assert found[4].splitlines()[1:] == ["  1 hit: answered", "  2 misses: had to run; first difference: nothing like it was stored"]
    after = io.StringIO()
    assert entry.run(("cache", "stats"), stdout=after, stderr=io.StringIO(), directory=str(tmp_path)) == 0
    assert "slow (In[2]:1)" in after.getvalue() and "memory" not in after.getvalue()


def test_words_that_are_none_of_it_are_refused(tmp_path: Path) -> None:
    [wrong] = cells(tmp_path, "%dvc_state reuse maybe")
    assert wrong["error"] == "UsageError" and "reuse on" in wrong["text"]
