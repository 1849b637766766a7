"""What a value that nobody logged costs to have from ten past runs, against running them again.

    python tests/benchmarks/replay_many.py [--runs N] [--epochs N] [--steps N] [--names A,B] [-j N] [--max-overhead PERCENT]
                                          [--folder DIR] [--json FILE]

A PyTorch program trains a classifier; it is recorded with ten seeds and learning rates. Then it gets a log statement, once at the end of an epoch (a
norm of the weights, which commits hold) and once inside the steps (the norm of a gradient, which no commit holds). The figures are CPU times of whole
process trees: of ``dvc-state replay NAME --all``, and of the same program with the statement written by hand, executed for each run. Every value
must be that of the statement written by hand, to the bit; else the benchmark fails.

``--folder`` keeps the recorded runs, and uses those that are there already.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 480

PROGRAM = """
import sys

import torch
import dartvc

seed, epochs, steps = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(seed)
torch.set_num_threads(1)
lr = dartvc.arg("lr", 0.01) * (1 + seed)
centers = torch.randn(10, 64)
labels = torch.randint(0, 10, (4096,))
inputs = centers[labels] + torch.randn(4096, 64)
model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def step(x, y):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    #inner
    optimizer.step()
    return loss.item()


for epoch in range(epochs):
    total = 0.0
    for batch in range(steps):
        chosen = torch.randint(0, 4096, (256,))
        total += step(inputs[chosen], labels[chosen])
    dartvc.log("loss", total / steps)
    #outer
print("loss", total / steps)
"""
OUTER, INNER = "weight_norm", "grad_norm"
STATEMENTS = {
    OUTER: ("#outer", "{}(sum(float(each.norm()) for each in model.parameters()))"),
    INNER: ("#inner", "{}(float(model[2].weight.grad.norm()))"),
}


def program(name: str, call: str) -> str:
    """Returns the program with one more statement, which calls something with the value; without a call, as it was recorded."""
    text = PROGRAM
    for each, (mark, statement) in STATEMENTS.items():
        text = text.replace(mark, statement.format(call) if each == name and call else "pass")
    return text


class Cost(NamedTuple):
    """What a process and its children took."""

    cpu_s: float
    wall_s: float
    stdout: str


def run(command: Sequence[str], folder: Path, *, is_checked: bool = True) -> Cost:
    """Runs a command to its end.

    Raises:
        SystemExit: it failed.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment())
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if is_checked and done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s, done.stdout)


def environment() -> dict[str, str]:
    """Returns the environment of all processes: one thread each."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def record(folder: Path, runs: int, arguments: Sequence[str], overhead: Sequence[str]) -> None:
    """Records runs of the program with several seeds."""
    (folder / "train.py").write_text(program("", ""))
    run(["dvc-state", "init"], folder)
    for seed in range(runs):
        cost = run(["dvc-state", "run", *overhead, "train.py", str(seed), *arguments], folder)
        print(f"recorded {seed}: {cost.cpu_s:.1f} s of CPU", file=sys.stderr, flush=True)


def by_hand(folder: Path, name: str, runs: int, arguments: Sequence[str]) -> tuple[float, list[list[float]]]:
    """Executes the program with the statement written by hand; returns the CPU time of all runs, and their values."""
    call = "(lambda value: print('VALUE', repr(value)))"
    script = folder / "by_hand.py"
    script.write_text(program(name, call))
    spent, values = 0.0, []
    with tempfile.TemporaryDirectory() as elsewhere:  # without a repository, so that nothing is logged
        for seed in range(runs):
            cost = run([sys.executable, str(script), str(seed), *arguments], Path(elsewhere))
            spent += cost.cpu_s
            values.append([float(line.split()[1]) for line in cost.stdout.splitlines() if line.startswith("VALUE")])
    script.unlink()
    return spent, values


def measured(folder: Path, name: str, runs: int, arguments: Sequence[str], processes: int) -> dict[str, object]:
    """Replays one name in all runs and by hand.

    Raises:
        SystemExit: a value is another.
    """
    logged = f"{name}_{os.getpid()}"  # no earlier replay knows it
    text = program(name, "CALL").replace("CALL(", f'dartvc.log("{logged}", ')
    (folder / "train.py").write_text(text)
    replayed = run(["dvc-state", "replay", logged, "--all", "-j", str(processes)], folder)
    told = json.loads(run(["dvc-state", "query", "--df", logged, "--format", "json"], folder).stdout)["items"]
    (folder / "train.py").write_text(program("", ""))
    found: dict[str, list[float]] = {}
    for row in told:
        found.setdefault(row["run"], []).append(row[logged])
    plain_s, values = by_hand(folder, name, runs, arguments)
    if list(found.values()) != values:
        raise SystemExit(f"{name}: the replayed values are not those of a statement written by hand:\n{list(found.values())}\n{values}")
    facts: dict[str, object] = {
        "name": name,
        "runs": runs,
        "values": sum(map(len, values)),
        "plain_cpu_s": plain_s,
        "replay_cpu_s": replayed.cpu_s,
        "replay_wall_s": replayed.wall_s,
        "ratio": plain_s / replayed.cpu_s,
    }
    print(replayed.stdout, file=sys.stderr)
    return facts


def main() -> None:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("-j", type=int, default=0)
    parser.add_argument("--max-overhead", help="of the recorded runs; on a busy machine more is needed for a commit at the end of every epoch")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--names", default=OUTER, help=f"{OUTER},{INNER}")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    arguments = [str(options.epochs), str(options.steps)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".dvc-state").exists():
            record(folder, options.runs, arguments, ["--max-overhead", options.max_overhead] if options.max_overhead else [])
        facts = [measured(folder, name, options.runs, arguments, options.j) for name in options.names.split(",")]
    for each in facts:
        print(
            f"{each['name']}: {each['runs']} runs, {each['values']} values; by hand {each['plain_cpu_s']:.1f} s of CPU, "
            f"replay {each['replay_cpu_s']:.1f} s in {each['replay_wall_s']:.1f} s: {each['ratio']:.1f} x"
        )
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
