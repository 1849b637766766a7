"""`run --verify-resume`: what it calls exact is exact, and what is not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import command

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

SCRIPT = """
import os, time
first = os.getpid()
with open("steps.txt", "w") as out:
    for step in range(150):
        time.sleep(0.02)
        out.write(f"{step}\\n")
print("end", CONDITION)
"""


def test_a_program_that_can_be_resumed_is_found_exact(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT.replace("CONDITION", "step"))
    done = command("run", "--verify-resume", "--kills", "2", "s.py", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 2 and all(line.endswith("  exact") for line in lines), done.stdout + done.stderr
    assert "value of first" in done.stderr and not (tmp_path / "steps.txt").exists()


def test_what_a_resumed_run_does_differently_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT.replace("CONDITION", "os.getpid() == first"))
    done = command("run", "--verify-resume", "--kills", "1", "s.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "stdout after the resume, line 1: 'end False' instead of 'end True'" in done.stdout, done.stdout + done.stderr


def test_a_program_that_is_too_short_to_be_killed_is_not_called_verified(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import os\nos._exit(0)\n")
    done = command("run", "--verify-resume", "--kills", "2", "s.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("nothing was verified") == 1 and "a longer input" in done.stderr
