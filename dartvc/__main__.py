"""``python -m dartvc`` is ``dvc-state``: for tools that start a program as a module (``coverage run -m dartvc run SCRIPT``)."""

from __future__ import annotations

import sys

from dartvc.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
