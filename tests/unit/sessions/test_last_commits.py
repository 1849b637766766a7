"""The last commit of a run copies nothing, unless something could change what it stores before it is durable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dartvc.history import Repository
from dartvc.porcelain.face import Repository as Face
from dartvc.state.working import WorkingNamespace, describe

BESIDES = {
    "nothing": "",
    "a thread": "import threading; stop = threading.Event(); threading.Thread(target=stop.wait, daemon=True).start()",
    "a thread of ours": "import threading; stop = threading.Event(); threading.Thread(target=stop.wait, daemon=True, name='dartvc-x').start()",
    "a child": "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)",
    "a child that has ended": "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
}


@pytest.mark.parametrize("beside", BESIDES)
def test_it_is_seen_what_could_change_the_memory_of_the_program(beside: str) -> None:
    code = f"{BESIDES[beside]}\nfrom dartvc.sessions.runs import _stands_still\nprint(_stands_still())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(beside not in ("a thread", "a child"))]


@pytest.mark.parametrize("lends", [True, False])
def test_lent_memory_is_the_program_s_own(lends: bool) -> None:
    np = pytest.importorskip("numpy")
    values = np.arange(300_000.0)
    working = WorkingNamespace({"values": values}, describe)
    with working.lending(lends):
        (changed,) = working.stage(None).changed
    assert changed.payload is not None
    ((first, *_),) = changed.payload.buffers
    assert first.data is not None
    assert np.shares_memory(np.frombuffer(first.data, np.uint8), values) == lends


def test_what_was_lent_is_stored(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import array\ntext = b'ab' * 3_000_000\nnumbers = array.array('d', range(2_000_000))\n")
    command = (sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())")
    subprocess.run([*command, "run", "script.py"], cwd=tmp_path, check=True, timeout=120)
    subprocess.run([*command, "fsck"], cwd=tmp_path, check=True, timeout=120)
    state: dict[str, Any] = dict(Face(Repository.open(tmp_path)).load("HEAD"))
    assert state["text"] == b"ab" * 3_000_000
    assert list(state["numbers"][::400_000]) == [0.0, 400_000.0, 800_000.0, 1_200_000.0, 1_600_000.0]
