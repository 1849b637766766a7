"""Prints a first session with dartvc as a terminal shows it. Run it in an empty folder: ``python first_session.py``."""

from __future__ import annotations

import contextlib
import io

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

CELLS = (
    "%load_ext dartvc",
    "import numpy as np; scores = np.linspace(0.0, 1.0, 5); threshold = 0.5",
    "scores[scores > threshold] = 1.0; threshold = 0.9",
    "%dvc_state diff HEAD~1 HEAD",
    "%dvc_state undo",
    "threshold, float(scores[3])",
)


def main() -> None:
    """Runs the cells in a shell of their own and prints them with what they print."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    for cell in CELLS:
        print(f"In [{shell.execution_count}]: {cell}")
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            shell.run_cell(cell, store_history=True)
        text = output.getvalue().rstrip()
        print(f"{text}\n" if text else "")


if __name__ == "__main__":
    main()
