"""Programs that were edited between a kill and their resume: nobody is guessed to mean either text, and both work."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

SCRIPT = """
import helper
SCALE = 10
class Model:
    def __init__(self):
        self.seen = []
    def step(self, x):
        self.seen.append(x)
        return x + 1
def describe(total):
    return f"total {total}"
def lines(n):
    for i in range(n):
        yield i
def main():
    model = Model()
    total = 0
    rest = lines(6)
    for x in rest:
        total += model.step(x) * SCALE + helper.bonus(x)
        if x == 2:
            commit_and_die()
    print(describe(total), len(model.seen))
if __name__ == "__main__":
    main()
"""
HELPER = "calls = []\ndef bonus(x):\n    calls.append(x)\n    return 0\n"
PLAIN = "total 210 6\n"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A project whose run was killed in the middle."""
    commit = COMMIT.replace("die():", 'die(place="1"):').replace('get("TEST_DIE")', 'get("TEST_DIE") == place')
    (tmp_path / "train.py").write_text(commit + SCRIPT)
    (tmp_path / "helper.py").write_text(HELPER)
    assert command("run", "train.py", cwd=tmp_path, die=True).returncode == -signal.SIGKILL
    return tmp_path


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_the_present_text_counts_for_what_is_not_in_progress(killed: Path) -> None:
    edit(
        killed / "train.py",
        ("import helper\n", "import helper\nimport math\n# a line more\ndef rounded(value):\n    return math.floor(value)\n"),
        ("        return x + 1\n", "        return self.more(x) + 1\n    def more(self, x):\n        return x + 100\n"),
        ('    return f"total {total}"', '    return f"sum {rounded(total + 0.5)}"'),
        ("        yield i\n", "        yield i  # still\n"),
        ("    print(describe(total), len(model.seen))\n", "    model.seen.clear()\n    print(describe(total), len(model.seen), [each * 2 for each in (1, 2)])\n"),
        ("SCALE = 10\n", "SCALE = 20\n"),
    )
    asked = command("resume", cwd=killed)
    assert asked.returncode == 4 and "-        return x + 1" in asked.stderr and "train.py was edited since the commit" in asked.stderr
    done = command("resume", "--code", "current", cwd=killed)
    assert (done.returncode, done.stdout) == (0, f"sum {60 + 10 * (104 + 105 + 106)} 0 [2, 4]\n"), done.stderr
    assert "line 20 of train.py was edited, and has run already" in done.stderr or "was edited, and has run already" in done.stderr


def test_the_recorded_text_goes_on_as_if_nothing_had_been_edited(killed: Path) -> None:
    edit(killed / "train.py", ("        return x + 1\n", "        return 0\n"))
    edit(killed / "helper.py", ("return 0", "return 1000"))
    asked = command("resume", cwd=killed)
    assert asked.returncode == 4 and "train.py, helper.py were edited" in asked.stderr and "+    return 1000" in asked.stderr
    done = command("resume", "--code", "recorded", cwd=killed)
    assert (done.returncode, done.stdout) == (0, PLAIN), done.stderr


def test_an_edited_module_is_asked_about_and_its_present_text_can_count(killed: Path) -> None:
    edit(killed / "helper.py", ("return 0", "return 1000"))
    assert "helper.py was edited since the commit" in command("resume", cwd=killed).stderr
    done = command("resume", "--code", "current", cwd=killed)
    assert (done.returncode, done.stdout) == (0, "total 3210 6\n"), done.stderr


def test_a_statement_in_progress_that_was_edited_is_named(killed: Path) -> None:
    edit(killed / "train.py", ("        total += model.step(x) * SCALE", "        total += 2 * model.step(x) * SCALE"))
    refused = command("resume", "--code", "current", cwd=killed)
    line = (killed / "train.py").read_text().splitlines().index("    for x in rest:") + 1
    assert refused.returncode and f"line {line} of " in refused.stderr and "in main, is in progress and was edited" in refused.stderr, refused.stderr
    assert "dvc-state resume --code recorded" in refused.stderr
    assert command("resume", "--code", "recorded", cwd=killed).stdout == PLAIN


def test_two_resumes_and_a_commit_between_them_stand_in_the_present_text(killed: Path) -> None:
    step = "        if x == 4:\n            commit_and_die('2')\n        return x + 2\n"
    edit(killed / "train.py", ("import helper\n", "\n\nimport helper\n"), ("        return x + 1\n", step))
    assert command("resume", "--code", "current", cwd=killed, die="2").returncode == -signal.SIGKILL
    done = command("resume", cwd=killed)
    assert (done.returncode, done.stdout) == (0, f"total {60 + 10 * (5 + 6 + 7)} 6\n"), done.stderr
