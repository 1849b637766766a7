"""A repository in a temporary folder, with a key of its own, and a short way to commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dartvc.history import RefMove, Repository
from dartvc.model import Oid
from tests.unit.history.staging import Commit, stage


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository.init(tmp_path / "project", key_path=tmp_path / "key", trust_path=tmp_path / "trusted")


@pytest.fixture
def commit(repository: Repository) -> Commit:
    """Commits names to ``main`` and returns the commit's id."""

    def commit(changed: Mapping[str, object], **options: object) -> Oid:
        present = repository.database.refs.read("refs/heads/main")
        writer = repository.writer()
        oid = writer.write(stage(changed, **options), [present] if present else [])  # type: ignore[arg-type]
        writer.publish()
        repository.move_refs([RefMove("refs/heads/main", present, oid)], operation="commit", description=str(options.get("message", "")))
        return oid

    return commit
