"""A program whose large tensors all change at each step: what commits cost it, how far apart they lie, how much memory they hold.

    python tests/benchmarks/large_states.py [--size MB] [--seconds S] [--max-overhead PERCENT] [--json FILE]

The program runs plainly and under ``dvc-state run``, in a folder of its own. *Stall* is what the log says of each commit; *one copy* is the time of cloning the
same tensors in the same process right after the last step, into fresh memory, the median of three. *Memory* is the peak of the process beyond the plain
one's, in MB; *changed* is what one commit has to store. The machine's other work is in all of these: read them as ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import resource, sys, time
import torch

torch.set_num_threads(1)
size, seconds = int(sys.argv[1]), float(sys.argv[2])
tensors = [torch.rand(size * 1024 * 1024 // 4 // 8) for _ in range(8)]
times = []
began = time.perf_counter()
while time.perf_counter() - began < seconds:
    started = time.perf_counter()
    for tensor in tensors:
        tensor.mul_(0.999).add_(0.001)
    times.append(time.perf_counter() - started)
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
copies = []
for _ in range(3):
    started = time.perf_counter()
    copied = [tensor.clone() for tensor in tensors]
    copies.append(time.perf_counter() - started)
    del copied
print(peak_mb, sorted(times)[len(times) // 2], len(times), sorted(copies)[1])
"""


def execute(command: list[str], folder: Path) -> tuple[float, float, int, float]:
    """Runs the program; returns its peak in MB, the median step, the number of steps, and one copy in seconds."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    peak, step, count, copy = done.stdout.split()
    return float(peak), float(step), int(count), float(copy)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="MB of tensors")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-overhead", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "program.py").write_text(PROGRAM)
        words = ["program.py", str(options.size), str(options.seconds)]
        dvc_state = [sys.executable, "-m", "dartvc"]
        plain = execute([sys.executable, *words], folder)
        under = execute([*dvc_state, "run", "--max-overhead", str(options.max_overhead), *words], folder)
        log = subprocess.run([*dvc_state, "log", "--json"], cwd=folder, check=True, capture_output=True, text=True).stdout
    large = [each for each in json.loads(log)["items"] if each["bytes"] > options.size * 2**19 and each["kind"] == "auto"]
    stalls = [each["stall_ms"] / 1e3 for each in reversed(large)]
    figures = {
        "size_mb": options.size,
        "commits": len(stalls),
        "step_s": under[1],
        "plain_step_s": plain[1],
        "copy_s": under[3],
        "stalls_s": [round(each, 3) for each in stalls],
        "stall_of_a_copy": round(statistics.median(stalls) / under[3], 2) if stalls else None,
        "commits_at": [each["time"] for each in reversed(large)],
        "memory_mb": round(under[0] - plain[0]),
        "changed_mb": options.size,
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
