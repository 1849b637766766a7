"""How long a resume takes to the first statement of the program, beside importing the same libraries and reading the state's bytes.

    python tests/benchmarks/resume_start.py [--rounds N] [--json FILE]

Each program makes its state, commits, and is killed; the statement after the commit says how much CPU time the process has used. Beside it stands a plain
process that imports the same libraries and reads a file of the state's size. Medians of alternate rounds, in seconds of CPU.
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

COMMIT = """
import os, resource, signal, sys

def used():
    taken = resource.getrusage(resource.RUSAGE_SELF)
    return taken.ru_utime + taken.ru_stime

def commit_and_die():
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(100):
        pass
    if os.path.exists("kill"):
        from dartvc.sessions.session import open_sessions
        open_sessions()[0].flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""
PROGRAMS = {
    "numpy": ("import numpy.random", "import numpy as np\nstate = [np.random.rand(1_000_000) for _ in range(4)]\n"),
    "sklearn": (
        "import sklearn.ensemble, sklearn.linear_model, pandas",
        "import numpy as np, pandas as pd\nfrom sklearn.ensemble import RandomForestClassifier\nfrom sklearn.linear_model import SGDClassifier\n"
        "x = np.random.rand(2000, 20)\ny = (x[:, 0] > 0.5).astype(int)\nframe = pd.DataFrame(x)\n"
        "model = RandomForestClassifier(50).fit(x, y)\nother = SGDClassifier().fit(x, y)\n",
    ),
    "torch": (
        "import torch, torch.utils.data",
        "import torch\nfrom torch import nn\nmodel = nn.Sequential(*[nn.Linear(1000, 1000) for _ in range(8)])\noptimizer = torch.optim.Adam(model.parameters())\n"
        "model(torch.rand(2, 1000)).sum().backward()\noptimizer.step()\n",
    ),
}
LOOP = "for epoch in range(3):\n    if epoch == 1:\n        commit_and_die()\n        print(used())\n        sys.exit()\n"
PLAIN = "import resource\n{imports}\ncontent = open('state', 'rb').read()\ntaken = resource.getrusage(resource.RUSAGE_SELF)\nprint(taken.ru_utime + taken.ru_stime)\n"


def measure(name: str, rounds: int) -> dict[str, float]:
    """Returns the figures of one program."""
    imports, made = PROGRAMS[name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("PYTHONHASHSEED", None)
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = os.environ.get("PYTHONPYCACHEPREFIX") or os.path.join(folder, "compiled")
        Path(folder, "program.py").write_text(f"from helper import *\n{made}{LOOP}")
        Path(folder, "helper.py").write_text(COMMIT)
        Path(folder, "plain.py").write_text(PLAIN.format(imports=imports))

        def run(words: list[str]) -> str:
            return subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout

        dvc_state = [sys.executable, "-m", "dartvc"]
        Path(folder, "kill").touch()
        run([*dvc_state, "run", "program.py"])
        Path(folder, "kill").unlink()
        commits = json.loads(run([*dvc_state, "log", "--json"]))["items"]
        place = commits[0]["oid"]
        size = sum(each["bytes"] for each in commits)
        Path(folder, "state").write_bytes(bytes(size))
        resumed, plain = [], []
        for _ in range(rounds + 1):
            plain.append(float(run([sys.executable, "plain.py"])))
            resumed.append(float(run([*dvc_state, "resume", place]).split()[-1]))
    first, second = statistics.median(plain[1:]), statistics.median(resumed[1:])
    return {"state_mb": round(size / 1e6, 1), "plain_s": round(first, 3), "resume_s": round(second, 3), "ratio": round(second / first, 2)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = {name: measure(name, options.rounds) for name in PROGRAMS}
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
