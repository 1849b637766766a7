"""dartvc beside FlorDB: what logging costs, and what asking costs.

    python tests/benchmarks/beside_flordb.py --flordb-python PATH --dartvc-python PATH [--records 100000,1000000] [--rounds N] [--json FILE]

Each measurement is a process in a folder of its own, the two tools in turn, so that both see the same minutes of the machine; figures are the least of the rounds.
FlorDB runs in a git repository of its own, which it demands. Both record the same loops; FlorDB's are annotated (``flor.loop``), dartvc's are plain.

*A call* is the CPU time of a whole program of 30,000 calls in two loops less that of the same program with a function that does nothing, divided by
the calls: encoding, threads and the commits at the end are in it. *Overhead* is the same for a program that works for a millisecond between calls, as a
share of its time. *Filling* is the wall time of a program that logs so many records, to its end. *First question* is the first pivot, *pivot* the next
one: three names as a pandas frame; *first page* is what shows twenty rows; *where* is a pivot of which a condition leaves one part in ten (FlorDB has no
condition over a pivot: the whole one is filtered by pandas); each with the start of its process. *Late epoch* is the time until a value that nobody
logged is known of the last of 20 epochs, after its log statement was added to the program.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FLORDB, DARTVC = "FlorDB", "dartvc"
LIMIT_S = 420
CALLS = 30_000
WORK_CALLS = 9_000

HEAD = {FLORDB: "import flordb as flor\n", DARTVC: "import dartvc\n"}
LOOP = re.compile(r'flor\.loop\("\w+", (range\(\w+\))\)')


CALLING = f"""
for epoch in flor.loop("epoch", range(10)):
    for batch in flor.loop("batch", range({CALLS // 10})):
        flor.log("loss", epoch + batch / 7)
"""
WORKING = f"""
import time
for epoch in flor.loop("epoch", range(3)):
    for batch in flor.loop("batch", range({WORK_CALLS // 3})):
        end = time.process_time() + 0.001
        while time.process_time() < end:
            pass
        flor.log("loss", batch / 7)
"""
FILLING = """
for epoch in flor.loop("epoch", range(100)):
    for batch in flor.loop("batch", range({steps})):
        flor.log("loss", epoch + batch / 7)
        flor.log("norm", batch / 3)
        flor.log("acc", 1 - batch / 1000)
"""
TRAINING = """
import random
random.seed(flor.arg("seed", 0))
weights = [random.random() for _ in range(2000)]
for epoch in flor.loop("epoch", range(20)):
    for step in flor.loop("step", range(10)):
        for _ in range(40):
            weights = [weight * 0.999 + 0.0001 for weight in weights]
    flor.log("loss", sum(weights))
"""
LATER = TRAINING + '    flor.log("largest", max(weights))\n'


def program(tool: str, code: str, *, is_logging: bool = True) -> str:
    """Returns a program for one of the two: dartvc's has plain loops; without logging, the calls go to a function that does nothing."""
    if tool == DARTVC:
        code = LOOP.sub(r"\1", code).replace("flor.", "dartvc.")
    if not is_logging:
        code = "nothing = lambda name, value: value\n" + code.replace("flor.log(", "nothing(").replace("dartvc.log(", "nothing(")
    return HEAD[tool] + code


class Cost(NamedTuple):
    """What a process cost; ``code`` is its exit status, -1 when it was ended for taking too long."""

    wall_s: float
    cpu_s: float
    code: int
    out: str


class Tool:
    """One of the two, with an interpreter and a folder for each project.

    Args:
        name: `FLORDB` or `DARTVC`.
        python: its interpreter.
        folder: where projects are made.
    """

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self.name = name
        self.python = python
        self._folder = folder
        self._count = 0

    def project(self) -> Path:
        """Makes a project as the tool needs it."""
        self._count += 1
        made = self._folder / f"{self.name}-{self._count}"
        made.mkdir(parents=True)
        if self.name == FLORDB:
            (made / "README").write_text("a project\n")
            for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
                subprocess.run(["git", *words], cwd=made, check=True)
        else:
            self.run(made, ["-c", "import dartvc; dartvc.init()"])
        return made

    def run(self, project: Path, words: Sequence[str], text: str = "") -> Cost:
        """Runs the interpreter in a project."""
        environment = {
            **os.environ,
            "GIT_AUTHOR_NAME": "x",
            "GIT_AUTHOR_EMAIL": "x@x",
            "GIT_COMMITTER_NAME": "x",
            "GIT_COMMITTER_EMAIL": "x@x",
        }
        environment["HOME"] = str(self._folder)
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        try:
            done = subprocess.run(
                [self.python, *words],
                cwd=project,
                env=environment,
                input=text,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
            code, out = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            code, out = -1, ""
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, code, out)

    def script(self, project: Path, code: str, *, name: str = "train.py", text: str = "") -> Cost:
        """Writes a script and runs it; dartvc's is run without `run`, as FlorDB's is: only what is logged is recorded."""
        (project / name).write_text(code)
        return self.run(project, [name], text)

    def command(self, project: Path, *words: str, text: str = "") -> Cost:
        """Runs the tool's command line."""
        if self.name == FLORDB:
            return self.run(project, ["-m", "flordb", *words], text)
        return self.run(project, ["-c", "import sys; from dartvc.cli.entry import main; sys.exit(main())", *words], text)


def measure_calls(tool: Tool) -> dict[str, float]:
    """Measures what a call adds, in microseconds of CPU time and as a share of a program that works."""
    figures = {}
    for label, code, calls in (("a call, us of CPU", CALLING, CALLS), ("overhead at 1,000 calls/s, %", WORKING, WORK_CALLS)):
        with_log = tool.script(tool.project(), program(tool.name, code))
        without = tool.script(tool.project(), program(tool.name, code, is_logging=False))
        if with_log.code or without.code:
            raise RuntimeError(with_log.out + without.out)
        added = with_log.cpu_s - without.cpu_s
        figures[label] = added / calls * 1e6 if "call," in label else added / without.cpu_s * 100
    return figures


FLOR_PIVOT = "import flordb as flor; frame = flor.dataframe('loss', 'norm', 'acc'); print(len(frame))"
FLOR_WHERE = "import flordb as flor; frame = flor.dataframe('loss', 'norm', 'acc'); print(len(frame[frame['epoch'].astype(int) >= 90]))"
FLOR_PAGE = "import flordb as flor; print(flor.dataframe('loss', 'norm', 'acc').head(20))"
OUR_PIVOT = "import dartvc; print(len(dartvc.open().dataframe('loss', 'norm', 'acc')))"
OUR_WHERE = "import dartvc; print(len(dartvc.open().dataframe('loss', 'norm', 'acc', where='epoch >= 90')))"


def measure_questions(tool: Tool, records: int) -> dict[str, float]:
    """Measures filling, pivot, first page and condition over so many records; what takes too long is infinite."""
    project = tool.project()
    steps = records // 300
    shown = f"{records:,} records"
    costs = {f"{shown}: filling, s": tool.script(project, program(tool.name, FILLING.format(steps=steps)))}
    if tool.name == FLORDB:
        costs[f"{shown}: first question, s"] = tool.run(project, ["-c", FLOR_PIVOT])
        costs[f"{shown}: pivot, s"] = tool.run(project, ["-c", FLOR_PIVOT])
        costs[f"{shown}: first page, s"] = tool.run(project, ["-c", FLOR_PAGE])
        costs[f"{shown}: where, s"] = tool.run(project, ["-c", FLOR_WHERE])
    else:
        costs[f"{shown}: first question, s"] = tool.run(project, ["-c", OUR_PIVOT])
        costs[f"{shown}: pivot, s"] = tool.run(project, ["-c", OUR_PIVOT])
        costs[f"{shown}: first page, s"] = tool.command(project, "query", "--df", "loss,norm,acc", "--limit", "20")
        costs[f"{shown}: where, s"] = tool.run(project, ["-c", OUR_WHERE])
    figures = {}
    for label, cost in costs.items():
        if cost.code > 0:
            raise RuntimeError(f"{tool.name}: {label}: {cost.out[-2000:]}")
        figures[label] = float("inf") if cost.code else cost.wall_s
    return figures


def measure_replay(tool: Tool) -> dict[str, float]:
    """Measures how long it takes to know of the last epoch what nobody logged."""
    project = tool.project()
    if tool.name == FLORDB:
        recorded = tool.script(project, program(tool.name, TRAINING))
        (project / "train.py").write_text(program(tool.name, LATER))
        done = tool.command(project, "replay", "--apply", "largest", "--iter", "epoch=19", text="y\ny\ny\n")
        asked = tool.run(project, ["-c", "import flordb as flor; print(flor.dataframe('largest').to_string())"])
    else:
        (project / "train.py").write_text(program(tool.name, TRAINING))
        recorded = tool.command(project, "run", "--every", "0.3", "train.py")
        (project / "train.py").write_text(program(tool.name, LATER))
        done = tool.command(project, "replay", "largest", "--all", "-j", "1")
        asked = tool.command(project, "query", "--df", "largest")
    if recorded.code or done.code:
        raise RuntimeError(recorded.out[-1000:] + done.out[-1000:])
    epochs = [line for line in asked.out.splitlines() if line.split()[:1] != ["Empty"]]
    return {"the run itself, s": recorded.wall_s, "late epoch, s": done.wall_s, "epochs answered": float(max(0, len(epochs) - 1))}


def best_of(rounds: int, tools: Sequence[Tool], measure: Callable[[Tool], dict[str, float]]) -> dict[str, dict[str, float]]:
    """Measures the tools in turn and returns the least of each figure, by label and tool."""
    found: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for tool in tools:
            for label, value in measure(tool).items():
                known = found.setdefault(label, {})
                known[tool.name] = min(value, known.get(tool.name, float("inf")))
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the figures as a Markdown table."""
    lines = ["| what | FlorDB | dartvc | ratio |", "|---|--:|--:|--:|"]
    for label, values in found.items():
        cells = [values.get(name) for name in (FLORDB, DARTVC)]
        texts = ["" if cell is None else f"> {LIMIT_S}" if cell == float("inf") else f"{cell:.3g}" for cell in cells]
        one, other = cells
        ratio = f"{one / other:.1f}x" if one is not None and other is not None and other > 0 and one != float("inf") else ""
        lines.append(f"| {label} | {texts[0]} | {texts[1]} | {'' if 'epochs' in label else ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flordb-python", required=True)
    parser.add_argument("--dartvc-python", required=True)
    parser.add_argument("--records", default="100000,1000000", help="numbers of records, with commas; empty: none")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="beside-flordb-"))
    try:
        tools = [Tool(FLORDB, os.path.abspath(options.flordb_python), folder), Tool(DARTVC, os.path.abspath(options.dartvc_python), folder)]
        found = best_of(options.rounds, tools, measure_calls)
        print(table(found), flush=True)
        found |= best_of(options.rounds, tools, measure_replay)
        print(table(found), flush=True)
        for count in filter(None, options.records.split(",")):
            found |= best_of(options.rounds, tools, lambda tool, records=int(count): measure_questions(tool, records))  # type: ignore[misc]
            print(table(found), flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(found, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
