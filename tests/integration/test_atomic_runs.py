"""Atomic runs as processes: what a program did stands as a whole, or is as if it had never run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

SCRIPT = """
import os, shutil, signal, sys, tempfile
open("appended.txt", "a").write("more\\n")
os.remove("removed.txt")
os.rename("renamed.txt", "other.txt")
with open("overwritten.txt", "w") as file:
    file.write("new")
os.makedirs("made/deep")
open("made/deep/x", "w").write("1")
shutil.rmtree("tree")
os.rename("folder", "folder2")
open("folder2/file", "a").write("grown")
os.symlink("overwritten.txt", "link")
os.chmod("mode.txt", 0o600)
os.truncate("truncated.txt", 2)
with open(tempfile.mkdtemp(dir=".") + "/q", "w") as file:
    file.write("q")
with open("updated.txt", "r+") as file:
    file.write("XX")
open("log", "a").write("second\\n")
os.rename("log", "log.1")
open("log", "w").write("fresh")
if os.fork() == 0:
    open("forked.txt", "w").write("f")
    os._exit(0)
os.wait()
with open("through", "w") as file:
    file.write("what the link names")
held = open("appended.txt", "a")
held.write("written when the interpreter ends")
how = sys.argv[1]
for step in range(3):
    if how == "commit":
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(3):
            pass
        open("overwritten.txt", "a").write(f"{step}")
if how == "raise":
    raise ValueError("no")
if how == "exit":
    sys.exit(3)
if how in ("kill", "commit"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
OLD = ("appended", "removed", "renamed", "overwritten", "mode", "truncated", "updated", "linked")


def command(*words: str, cwd: Path, die: bool = False) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words]
    environment = {**os.environ, "PYTHONHASHSEED": "7", **({"TEST_DIE": "1"} if die else {})}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)


def project(folder: Path, script: str = SCRIPT) -> Path:
    folder.mkdir()
    (folder / "train.py").write_text(script)
    for name in OLD:
        (folder / f"{name}.txt").write_text(f"what {name} was\n")
    (folder / "through").symlink_to("linked.txt")
    (folder / "tree" / "sub").mkdir(parents=True)
    (folder / "tree" / "sub" / "leaf").write_text("leaf")
    (folder / "folder").mkdir(mode=0o750)
    (folder / "folder" / "file").write_text("file")
    (folder / "log").write_text("first\n")
    return folder


def picture(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Returns everything of a project but its repository: modes, contents, links."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for where, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each not in (".dvc-state", "__pycache__")]
        for name in (*folders, *files):
            path = Path(where, name)
            mode = path.lstat().st_mode
            content: bytes | str = ""
            if stat.S_ISREG(mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            found[str(path.relative_to(folder))] = (mode, content)
    return found


def state_of_last_run(folder: Path) -> str:
    listed = json.loads(command("runs", "--json", cwd=folder).stdout)
    return str(listed["items"][0]["state"])


@pytest.mark.parametrize(("how", "code"), [("raise", 1), ("exit", 3)])
def test_a_failed_run_leaves_every_file_and_head_as_they_were(tmp_path: Path, how: str, code: int) -> None:
    folder = project(tmp_path / "p")
    before = picture(folder)
    done = command("run", "--atomic", "train.py", how, cwd=folder)
    assert done.returncode == code, done.stderr
    assert "was rolled back" in done.stderr
    assert "lost" not in done.stderr and "not covered" not in done.stderr
    assert picture(folder) == before
    assert state_of_last_run(folder) == "rolled back"
    assert "no commit yet" in command("status", cwd=folder).stdout
    tip = json.loads(command("runs", "--json", cwd=folder).stdout)["items"][0]["tip"]
    assert command("log", tip, cwd=folder).returncode == 0
    assert "rolled back" in command("resume", cwd=folder).stderr


@pytest.mark.parametrize("how", ["", "raise", "exit", "kill"])
def test_a_clone_says_of_a_run_what_stands_of_it(tmp_path: Path, how: str) -> None:
    folder = project(tmp_path / "p")
    command("run", "--atomic", "train.py", how, cwd=folder)
    command("abort", cwd=folder)
    state = state_of_last_run(folder)
    command("clone", str(folder), "copy", cwd=tmp_path)
    assert state == state_of_last_run(tmp_path / "copy") == ("rolled back" if how else "done")


@pytest.mark.parametrize("how", ["kill", "commit"])
def test_a_killed_run_is_told_of_and_taken_back_by_abort(tmp_path: Path, how: str) -> None:
    folder = project(tmp_path / "p")
    before = picture(folder)
    assert command("run", "--atomic", "train.py", how, cwd=folder).returncode == -signal.SIGKILL
    assert picture(folder) != before
    assert "was killed, its files stand half done" in command("status", cwd=folder).stdout
    assert state_of_last_run(folder) == "crashed"
    done = command("abort", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture(folder) == before
    assert state_of_last_run(folder) == "rolled back"
    assert command("abort", cwd=folder).returncode == 3


def test_a_run_that_lives_in_a_container_is_left_alone(tmp_path: Path) -> None:
    container = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if not shutil.which("unshare") or subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace can be made here")
    folder = project(tmp_path / "p")
    (folder / "long.py").write_text("import sys\nopen('made', 'w').write('half')\nprint('half', flush=True)\nsys.stdin.readline()\nopen('made', 'a').write(' done')")
    (folder / "short.py").write_text("print(open('made').read())")
    line = [*container, sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", "run", "--atomic", "long.py"]
    with subprocess.Popen(line, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        beside = command("run", "--atomic", "short.py", cwd=folder)
        assert (beside.stdout, "rolled back" in beside.stderr) == ("half\n", False)
        run_id = next((folder / ".dvc-state" / "atomic").glob("*.json")).stem
        assert command("abort", run_id, cwd=folder).returncode == 6
        _, err = process.communicate("\n", timeout=60)
        assert process.returncode == 0, err
    assert (folder / "made").read_text() == "half done"


def test_the_next_atomic_run_takes_a_killed_one_back_first(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    command("run", "--atomic", "train.py", "kill", cwd=folder)
    (folder / "look.py").write_text("print(open('overwritten.txt').read(), end='')")
    plain = command("run", "look.py", cwd=folder)
    assert plain.stdout == "new" and "was killed" in plain.stderr
    done = command("run", "--atomic", "look.py", cwd=folder)
    assert done.stdout == "what overwritten was\n"
    assert "was rolled back" in done.stderr


def test_a_run_that_succeeds_stands_and_its_branch_moves_once(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    done = command("run", "--atomic", "train.py", "succeed", cwd=folder)
    assert done.returncode == 0 and done.stderr == ""
    assert (folder / "overwritten.txt").read_text() == "new"
    assert (folder / "appended.txt").read_text().endswith("written when the interpreter ends")
    assert state_of_last_run(folder) == "done"
    operations = json.loads(command("op", "log", "--json", cwd=folder).stdout)["items"]
    assert [each["operation"] for each in operations] == ["run"]
    assert "train.py" in command("log", "main", cwd=folder).stdout
    assert command("fsck", cwd=folder).returncode == 0


def test_a_killed_run_goes_on_and_stands(tmp_path: Path) -> None:
    script = """
import os, signal
out = open("out.txt", "w")
for step in range(4):
    out.write(f"{step}\\n")
    if step == 2:
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(3):
            pass
        if os.environ.get("TEST_DIE"):
            import dartvc
            dartvc.session().flush()
            open("precious.txt", "w").write("gone")
            os.kill(os.getpid(), signal.SIGKILL)
out.close()
"""
    folder = project(tmp_path / "p", script)
    (folder / "precious.txt").write_text("kept")
    assert command("run", "--atomic", "train.py", cwd=folder, die=True).returncode == -signal.SIGKILL
    done = command("resume", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "out.txt").read_text() == "0\n1\n2\n3\n"
    assert (folder / "precious.txt").read_text() == "kept"
    assert state_of_last_run(folder) == "done"
    assert "on branch main" in command("status", cwd=folder).stdout
    assert "exit 0" in command("log", "main", "-n", "1", cwd=folder).stdout


def test_a_resumed_run_that_fails_is_taken_back_to_before_its_first_beginning(tmp_path: Path) -> None:
    script = """
import os, signal
open("overwritten.txt", "w").write("half")
for step in range(2):
    if step == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(3):
            pass
        if os.environ.get("TEST_DIE"):
            import dartvc
            dartvc.session().flush()
            os.kill(os.getpid(), signal.SIGKILL)
open("overwritten.txt", "a").write("more")
raise ValueError("at last")
"""
    folder = project(tmp_path / "p", script)
    before = picture(folder)
    assert command("run", "--atomic", "train.py", cwd=folder, die=True).returncode == -signal.SIGKILL
    done = command("resume", cwd=folder)
    assert done.returncode == 1 and "at last" in done.stderr
    assert picture(folder) == before
    assert state_of_last_run(folder) == "rolled back"


def test_what_a_child_process_wrote_is_named_as_not_covered(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "p", "import subprocess\nsubprocess.run(['sh', '-c', 'echo x > child.txt; echo y >> log'])\nraise ValueError"
    )
    done = command("run", "--atomic", "train.py", cwd=folder)
    assert "not covered (written by a child process, or past Python): child.txt, log" in done.stderr


def test_a_write_that_could_not_be_taken_back_does_not_happen(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "p",
        "import glob, shutil\nshutil.rmtree(glob.glob('.dvc-state/runs/*')[0])\n"
        "try:\n    open('overwritten.txt', 'w')\nexcept OSError as error:\n    print('refused:', error)\nraise SystemExit(1)",
    )
    done = command("run", "--atomic", "train.py", cwd=folder)
    assert "refused:" in done.stdout and "dartvc cannot keep what is there" in done.stdout
    assert (folder / "overwritten.txt").read_text() == "what overwritten was\n"


def test_a_run_that_is_alive_is_not_aborted(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", "import sys\nopen('overwritten.txt', 'w').write('x')\nprint('up', flush=True)\nsys.stdin.read()")
    line = [sys.executable, "-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", "run", "--atomic", "train.py"]
    with subprocess.Popen(line, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout is not None and living.stdin is not None
        assert living.stdout.readline() == "up\n"
        run_id = json.loads(command("runs", "--json", cwd=folder).stdout)["items"][0]["run_id"]
        assert command("abort", run_id, cwd=folder).returncode == 6
        assert state_of_last_run(folder) == "running"
        living.stdin.close()
    assert (folder / "overwritten.txt").read_text() == "x"


def test_large_files_are_kept_whole(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", "open('large', 'r+b').write(b'zz')\nopen('grown', 'ab').write(b'more')\nraise ValueError")
    content = os.urandom(1 << 16) * 300
    (folder / "large").write_bytes(content)
    (folder / "grown").write_bytes(content)
    command("run", "--atomic", "train.py", cwd=folder)
    assert (folder / "large").read_bytes() == content
    assert (folder / "grown").read_bytes() == content


def test_files_that_torch_writes_past_python_are_taken_back(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = project(tmp_path / "p", "import torch\ntorch.save(torch.ones(3), 'model.pt')\ntorch.save(1, 'fresh.pt')\nraise ValueError")
    (folder / "model.pt").write_text("old")
    done = command("run", "--atomic", "train.py", cwd=folder)
    assert (folder / "model.pt").read_text() == "old"
    assert not (folder / "fresh.pt").exists()
    assert "not covered" not in done.stderr


def test_a_transaction_takes_back_the_files_of_its_block_alone(tmp_path: Path) -> None:
    script = """
import os, dartvc
counted = [1]
out = open("out.txt", "w")
out.write("before\\n")
open("early.txt", "w").write("early")
try:
    with dartvc.transaction():
        counted.append(2)
        out.write("inside\\n")
        open("early.txt", "a").write("late")
        os.remove("removed.txt")
        os.mkdir("made")
        open("made/x", "w").write("x")
        with dartvc.transaction():
            open("inner.txt", "w").write("inner")
        raise ValueError
except ValueError:
    pass
out.write("after\\n")
with dartvc.transaction():
    open("kept.txt", "w").write("kept")
print(counted)
"""
    folder = project(tmp_path / "p", script)
    for words in (["run"], ["run", "--atomic"]):
        done = command(*words, "train.py", cwd=folder)
        assert done.returncode == 0 and done.stdout == "[1]\n", done.stderr
        assert (folder / "out.txt").read_text() == "before\nafter\n"
        assert (folder / "early.txt").read_text() == "early"
        assert (folder / "removed.txt").exists() and not (folder / "made").exists() and not (folder / "inner.txt").exists()
        assert (folder / "kept.txt").read_text() == "kept"
        shutil.rmtree(folder / ".dvc-state")


def test_a_branch_that_went_on_meanwhile_keeps_what_only_it_has(tmp_path: Path) -> None:
    script = """
import os, signal
if os.environ.get("TEST_DIE"):
    import dartvc
    dartvc.session().flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = project(tmp_path / "p", script)
    (folder / "other.py").write_text("y = 2")
    assert command("run", "--atomic", "train.py", cwd=folder, die=True).returncode == -signal.SIGKILL
    assert command("run", "other.py", cwd=folder).returncode == 0
    main = command("log", "main", "--oneline", "-n", "1", cwd=folder).stdout
    run_id = next(
        each["run_id"] for each in json.loads(command("runs", "--json", cwd=folder).stdout)["items"] if each["state"] == "crashed"
    )
    tip = next(each["tip"] for each in json.loads(command("runs", "--json", cwd=folder).stdout)["items"] if each["run_id"] == run_id)
    done = command("resume", tip, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert command("log", "main", "--oneline", "-n", "1", cwd=folder).stdout.split()[0] == main.split()[0]
    assert f"main-{run_id}" in command("branch", cwd=folder).stdout


def test_a_rolled_back_run_that_is_gone_into_again_is_a_transaction_again(tmp_path: Path) -> None:
    script = "import os\nopen('overwritten.txt', 'w').write('new')\nif os.environ.get('TEST_DIE'):\n    raise ValueError\n"
    folder = project(tmp_path / "p", script)
    before = picture(folder)
    assert command("run", "--atomic", "train.py", cwd=folder, die=True).returncode == 1
    assert picture(folder) == before
    tip = json.loads(command("runs", "--json", cwd=folder).stdout)["items"][0]["tip"]
    again = command("resume", tip, cwd=folder, die=True)
    assert again.returncode == 1 and picture(folder) == before
    done = command("resume", json.loads(command("runs", "--json", cwd=folder).stdout)["items"][0]["tip"], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "overwritten.txt").read_text() == "new"
    assert state_of_last_run(folder) == "done"


def test_a_terminated_run_stays_open(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "p",
        "import os, signal\nopen('overwritten.txt', 'w').write('x')\nos.kill(os.getpid(), signal.SIGTERM)\nwhile True:\n    pass\n",
    )
    before = picture(folder)
    assert command("run", "--atomic", "train.py", cwd=folder).returncode == -signal.SIGTERM
    assert "was killed" in command("status", cwd=folder).stdout
    assert command("abort", cwd=folder).returncode == 0
    assert picture(folder) == before
