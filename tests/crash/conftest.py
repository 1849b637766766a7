"""What the tests of faults share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.crash.disks import KINDS, Disk
from tests.crash.faults import NO_STRACE, is_traceable


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """An empty disk of each kind that can be had here."""
    if not is_traceable():
        pytest.skip(NO_STRACE)
    made = Disk(tmp_path / "disk.img", request.param)
    try:
        made.format()
        with made.mounted():
            made.cut_power()
        made.format()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no {request.param} image can be mounted and shut down here: {error}")
    return made
