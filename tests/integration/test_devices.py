"""Runs that another machine's graphics processor held: continued, loaded and looked into where there is none."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from xxhash import xxh3_128_digest

from dartvc.history import RefMove, Repository
from dartvc.model import ChunkRef, Digest, Oid, Payload, StagedCommit, StagedName
from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.skipif(not is_supported() or torch.cuda.is_available(), reason="frames cannot be read, or the device is here")

SCRIPT = """
import torch
place = torch.device("cpu")
weights = torch.arange(8.0)
part = weights[2:5]
def train():
    step = torch.ones(3)
    for i in range(3):
        part.add_(step.to(place))
        if i == 1:
            commit_and_die()
    print(weights.tolist(), weights.device, place)
train()
"""


def of_another_device(folder: Path) -> Oid:
    """Commits the newest state of the run again, as a machine with a graphics processor would have stored it: only the name of the device differs."""
    repository = Repository.open(folder)
    tip = repository.resolve("HEAD")
    commit = repository.commit(tip)
    groups: dict[Oid, list[str]] = {}
    for name, entry in repository.names(tip).items():
        if entry.payload_oid is not None:
            groups.setdefault(entry.payload_oid, []).append(name)
    changed = []
    for payload_oid, names in groups.items():
        stream = repository.payload(payload_oid).read_stream()
        moved = stream.replace(b"\x8c\x03cpu", b"\x8c\x06cuda:0")
        payload = Payload(tuple(names), (ChunkRef(Digest(xxh3_128_digest(moved)), len(moved), moved),))
        changed += [StagedName(name, repository.summary(repository.names(tip)[name]), payload) for name in names if moved != stream]
    assert {"weights", "part", "place", "train().step"} <= {each.name for each in changed}
    staged = StagedCommit(
        "there", commit.kind, commit.time.timestamp(), 0, repository.code(tip), tuple(changed), run=commit.run, position=commit.position
    )
    writer = repository.writer()
    oid = writer.write(staged, (tip,))
    writer.publish()
    moves = [RefMove("refs/heads/main", tip, oid), RefMove(f"refs/runs/{commit.run}", tip, oid)]
    repository.move_refs(moves, operation="commit", description="there")
    return oid


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(COMMIT + SCRIPT)
    assert command("run", "train.py", cwd=tmp_path, die=True).returncode == -signal.SIGKILL
    of_another_device(tmp_path)
    return tmp_path


def test_a_run_goes_on_on_the_device_that_it_is_given(there: Path) -> None:
    done = command("resume", "--map-device", "cpu", cwd=there)
    assert (done.returncode, done.stdout) == (0, "[0.0, 1.0, 5.0, 6.0, 7.0, 5.0, 6.0, 7.0] cpu cpu\n"), done.stderr
    assert "cuda" not in done.stderr


def test_without_a_map_it_is_said_where_the_tensors_are(there: Path) -> None:
    done = command("resume", cwd=there)
    assert "tensors of cuda:0, which is not here, are on the CPU" in done.stderr
    assert done.returncode == 1  # the program asks for its device itself


def test_a_state_is_loaded_checked_out_and_opened_on_another_device(there: Path) -> None:
    code = (
        "import dartvc\nrepo = dartvc.open('.')\nfound = repo.load('main', map_device='cpu')\nprint(found['place'], found['train().step'].device)\n"
        "found['weights'][2] = 50\nprint(found['part'][0].item())\nns = {'__name__': '__main__'}\nrepo.checkout('main', ns, map_device='meta')\n"
        "print(ns['weights'].device, ns['place'], ns['part'].untyped_storage()._cdata == ns['weights'].untyped_storage()._cdata)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=there, capture_output=True, text=True)
    assert done.stdout == "cpu cpu\n50.0\nmeta meta True\n", done.stderr
    shown = command("shell", "main", "--frame", "1", "--map-device", "cpu", "-c", "print(step.device, part.tolist(), place)", cwd=there)
    assert shown.stdout == "cpu [4.0, 5.0, 6.0] cpu\n", shown.stderr


def test_what_is_no_device_is_refused(there: Path) -> None:
    for words in (("resume",), ("shell",), ("checkout", "main")):
        refused = command(*words, "--map-device", "the cpu", cwd=there)
        assert refused.returncode == 2 and "'the cpu' is no device" in refused.stderr
    assert "no session is alive" in command("checkout", "main", "--map-device", "cpu", cwd=there).stderr
