"""A fresh repository and the shortest way to a commit in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dartvc.store import ObjectDatabase


@pytest.fixture
def database(tmp_path: Path) -> ObjectDatabase:
    """Returns an empty repository."""
    return ObjectDatabase.create(tmp_path / "state.git")
