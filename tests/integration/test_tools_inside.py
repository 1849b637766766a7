"""Debuggers, coverage, profilers and test runners inside a run: the same output and the same line numbers as under bare Python."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

WORK = """
import os, signal
def work(n):
    total = 0
    for i in range(n):
        total += step(i)
    return total
def step(i):
    if i % 3 == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
    a = i * 2
    b = a + 1
    return b
"""
SCRIPTS = {
    "a trace function": "\nimport sys\nfrom work import work\nevents = []\ndef trace(frame, event, argument):\n"
    "    events.append((event, frame.f_code.co_name, frame.f_lineno)) if frame.f_code.co_filename.endswith('work.py') else None\n    return trace\n"
    "sys.settrace(trace)\nwork(10)\nsys.settrace(None)\nprint(events)\n",
    "a trace function of threads": "\nimport sys, threading\nfrom work import work\nevents = []\ndef trace(frame, event, argument):\n"
    "    events.append((event, frame.f_code.co_name, frame.f_lineno)) if frame.f_code.co_filename.endswith('work.py') else None\n    return trace\n"
    "threading.settrace(trace)\nother = threading.Thread(target=work, args=(7,))\nother.start()\nother.join()\nprint(events)\n",
    "a profile function": "\nimport sys\nfrom work import work\nevents = []\ndef profile(frame, event, argument):\n"
    "    events.append((event, frame.f_code.co_name)) if frame.f_code.co_filename.endswith('work.py') else None\n"
    "sys.setprofile(profile)\nwork(10)\nsys.setprofile(None)\nprint(events)\n",
    "cProfile": "\nimport cProfile, pstats\nfrom work import work\np = cProfile.Profile()\np.enable()\nwork(10)\np.disable()\n"
    "print(sorted((f, n, v[:2]) for (f, l, n), v in pstats.Stats(p).stats.items() if f.endswith('work.py')))\n",
    "tracemalloc": "\nimport tracemalloc\nfrom work import work\ntracemalloc.start()\nkept = [bytes(1000 + i) for i in range(50)]\nwork(10)\n"
    "taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])\n"
    "print([(s.traceback[0].lineno, s.count, s.size) for s in taken.statistics('lineno') if s.size > 10_000])\n",
    "the standard library's trace": "\nimport trace\nfrom work import work\nt = trace.Trace(count=1, trace=0)\nt.runfunc(work, 10)\n"
    "print(sorted((k[1], v) for k, v in t.results().counts.items() if k[0].endswith('work.py')))\n",
    "coverage": "\nimport coverage\nc = coverage.Coverage(data_file=None, include=['*/work.py'], branch=True)\nc.start()\nfrom work import work\nwork(10)\nc.stop()\n"
    "print(c.analysis('work.py')[1:], sorted(c.get_data().arcs(__file__.replace('s.py', 'work.py'))))\n",
    "a monitoring tool": "\nimport sys\nfrom work import work\nm = sys.monitoring\nm.use_tool_id(m.DEBUGGER_ID, 'debugger')\nlines = []\n"
    "def on_line(code, line):\n    lines.append(line) if code.co_filename.endswith('work.py') else None\n"
    "m.register_callback(m.DEBUGGER_ID, m.events.LINE, on_line)\nm.set_events(m.DEBUGGER_ID, m.events.LINE)\nwork(10)\n"
    "m.set_events(m.DEBUGGER_ID, 0)\nprint(m.get_tool(m.DEBUGGER_ID), lines)\n",
}  # fmt: skip


def python(*words: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs Python with a SIGUSR1 that does nothing, unless the program, or dartvc, takes it."""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, input=stdin, capture_output=True, text=True, env=environment, timeout=120, preexec_fn=_ignore
    )


def _ignore() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


RUN = ("-c", "import signal, sys; signal.signal(signal.SIGUSR1, signal.SIG_DFL); from dartvc.cli.entry import main; sys.exit(main())", "run")


def commits(folder: Path) -> int:
    done = python("-m", "dartvc", "log", "--json", cwd=folder)
    return sum(item["kind"] == "auto" for item in json.loads(done.stdout)["items"])


@pytest.mark.parametrize("tool", SCRIPTS)
def test_a_tool_inside_a_run_sees_what_it_sees_under_bare_python(tmp_path: Path, tool: str) -> None:
    if tool == "coverage":
        pytest.importorskip("coverage", reason="coverage is not installed")
    if tool == "a monitoring tool" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "s.py").write_text(SCRIPTS[tool])
    plain = python("s.py", cwd=tmp_path)
    done = python(*RUN, "s.py", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert (done.returncode, done.stdout) == (0, plain.stdout), done.stderr
    assert tool == "a trace function of threads" or commits(tmp_path) >= 3


def test_status_says_why_nothing_could_be_committed_that_can_be_resumed_from(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "s.py").write_text(SCRIPTS["cProfile"])
    python(*RUN, "s.py", cwd=tmp_path)
    status = python("-m", "dartvc", "status", cwd=tmp_path).stdout
    assert "no commit that can be resumed from: p: TypeError: cannot pickle 'Profile' object" in status


DEBUGGED = """def work(x):
    y = x + 1
    breakpoint()
    z = y * 2
    for i in range(5):
        z += step(i)
    return z
from work import step
print(work(1))
print(work(2))
"""


def test_a_debugger_stops_where_it_is_told_and_shows_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "s.py").write_text(DEBUGGED)
    typed = "p y\nn\nn\np z\nl 1,5\nb work.py:13\nc\np i, b\nu\np z\nd\ns\nc\ncl 1\nc\nc\np y\nc\n"
    plain = python("s.py", cwd=tmp_path, stdin=typed)
    done = python(*RUN, "s.py", cwd=tmp_path, stdin=typed)
    assert plain.returncode == 0 and "Breakpoint 1 at" in plain.stdout, plain.stderr
    assert (done.returncode, done.stdout) == (0, plain.stdout), done.stderr


def test_leaving_a_debugger_ends_the_program_as_it_does_without_us(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def work():\n    breakpoint()\n    print('never')\nwork()\n")
    plain = python("s.py", cwd=tmp_path, stdin="q\n")
    done = python(*RUN, "s.py", cwd=tmp_path, stdin="q\n")
    assert "BdbQuit" in plain.stderr
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_coverage_of_the_whole_process_counts_the_lines_of_the_script(tmp_path: Path) -> None:
    pytest.importorskip("coverage", reason="coverage is not installed")
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "s.py").write_text("from work import work\nif work(10) < 0:\n    print('never')\nprint('end')\n")
    found = []
    for words in (("s.py",), ("-m", "dartvc", "run", "s.py")):
        done = python("-m", "coverage", "run", "--include=s.py,work.py", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
        assert python("-m", "coverage", "json", "-o", "out.json", cwd=tmp_path).returncode == 0
        files = json.loads((tmp_path / "out.json").read_text())["files"]
        found.append({name: facts["executed_lines"] for name, facts in files.items()})
    assert found[0] == found[1] and found[0]["s.py"] == [1, 2, 4]


TESTS = """
import sys
from work import step
def test_good(tmp_path):
    assert step(1) == 3
def test_bad():
    left = {"a": step(2)}
    assert left == {"a": 6}
def test_prints(capsys):
    print("x")
    assert capsys.readouterr().out == "x\\n"
"""


def test_pytest_runs_and_reports_as_it_does_without_us(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "test_s.py").write_text(TESTS)
    (tmp_path / "plug.py").write_text("def pytest_report_header():\n    return 'the plugin is here'\n")
    words = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "plug", "-v", "test_s.py")
    plain = python(*words, cwd=tmp_path)
    done = python(*RUN, *words, cwd=tmp_path)

    def timeless(text: str) -> str:
        return re.sub(r"in \d+\.\d+s", "in TIME", re.sub(r"=+", "=", text))

    assert plain.returncode == 1 and "the plugin is here" in plain.stdout and "1 failed, 2 passed" in plain.stdout, plain.stderr
    assert (done.returncode, timeless(done.stdout)) == (1, timeless(plain.stdout)), done.stderr


def test_a_crash_is_reported_by_faulthandler_with_the_lines_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import faulthandler\nfaulthandler.enable()\ndef work():\n    faulthandler._sigabrt()\nwork()\n")
    done = python(*RUN, "s.py", cwd=tmp_path)
    assert done.returncode == -signal.SIGABRT
    shown = [line.strip() for line in done.stderr.splitlines() if f"{tmp_path}/" in line]
    assert shown == [f'File "{tmp_path}/s.py", line 4 in work', f'File "{tmp_path}/s.py", line 5 in <module>']
    (tmp_path / "t.py").write_text("import faulthandler\ndef work():\n    faulthandler.dump_traceback()\nwork()\n")
    assert f'File "{tmp_path}/t.py", line 3 in work' in python(*RUN, "t.py", cwd=tmp_path).stderr
