"""Recording without a line in the notebook: a marked block in IPython's configuration, or a kernel of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["disable", "enable", "enable_kernelspec"]

_BEGIN, _END = "# >>> dartvc >>>", "# <<< dartvc <<<"
_BLOCK = f'{_BEGIN}\nc.InteractiveShellApp.extensions.append("dartvc")\n{_END}\n'
_KERNEL = "dartvc-python3"


def _profile_config() -> Path:
    folder = os.environ.get("IPYTHONDIR")
    return (Path(folder) if folder else Path.home() / ".ipython") / "profile_default" / "ipython_config.py"


def _kernel_folder() -> Path:
    folder = os.environ.get("JUPYTER_DATA_DIR")
    if folder:
        return Path(folder) / "kernels" / _KERNEL
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "jupyter" / "kernels" / _KERNEL


def enable() -> Iterator[str]:
    """Makes every IPython session and kernel of this user load the extension."""
    path = _profile_config()
    present = path.read_text() if path.exists() else "c = get_config()  # noqa\n"
    if _BEGIN not in present:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(present + ("" if present.endswith("\n") else "\n") + _BLOCK)
    yield f"every notebook is recorded from its next start (written to {path})"
    yield "the way back: dvc-state jupyter disable"


def enable_kernelspec() -> Iterator[str]:
    """Installs a kernel that loads the extension."""
    folder = _kernel_folder()
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--ext=dartvc"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3 (dartvc)", "language": "python"}, indent=1))
    yield f'the kernel "Python 3 (dartvc)" is installed in {folder}'
    yield "the way back: dvc-state jupyter disable"


def disable() -> Iterator[str]:
    """Removes both."""
    path = _profile_config()
    if path.exists() and _BEGIN in path.read_text():
        before, _, rest = path.read_text().partition(_BEGIN)
        path.write_text(before + rest.partition(_END)[2].lstrip("\n"))
        yield f"removed from {path}"
    folder = _kernel_folder()
    if folder.exists():
        shutil.rmtree(folder)
        yield f"removed {folder}"
    yield "notebooks are recorded only where they say %load_ext dartvc"
