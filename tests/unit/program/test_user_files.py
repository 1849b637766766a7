"""Which files are the user's own: one rule for stopping, recording and reuse."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path

import pytest

from dartvc.host.places import is_library_file
from dartvc.program import sources
from dartvc.program.sources import UserFiles


def test_a_file_below_the_project_is_the_users_and_one_beside_it_is_not(tmp_path: Path) -> None:
    files = UserFiles(str(tmp_path / "project"))
    assert files.is_own(str(tmp_path / "project" / "src" / "pkg" / "core.py"))
    assert not files.is_own(str(tmp_path / "project-2" / "core.py"))
    assert not files.is_own("<string>") and not files.is_own("<frozen importlib._bootstrap>")


def test_a_virtual_environment_inside_the_project_is_not_the_users(tmp_path: Path) -> None:
    files = UserFiles(str(tmp_path))
    for folder in (".venv/lib/python3.11/site-packages", "env/lib64/python3/dist-packages"):
        assert not files.is_own(str(tmp_path / folder / "numpy" / "core.py"))


def test_a_folder_whose_name_looks_like_pythons_library_is_the_users(tmp_path: Path) -> None:
    assert UserFiles(str(tmp_path)).is_own(str(tmp_path / "lib" / "python-tools" / "work.py"))


def test_pythons_own_library_and_ours_are_never_the_users() -> None:
    files = UserFiles("/")
    assert not files.is_own(json.__file__) and not files.is_own(sources.__file__)
    assert is_library_file(os.path.join(sysconfig.get_path("stdlib"), "json", "__init__.py"))


def test_a_file_behind_a_symbolic_link_is_the_users_under_either_name(tmp_path: Path) -> None:
    project, shared = tmp_path / "project", tmp_path / "shared"
    packages = tmp_path / "env" / "site-packages"
    for folder in (project / "src" / "own", shared, packages):
        folder.mkdir(parents=True)
    (project / "shared").symlink_to(shared)
    (packages / "own").symlink_to(project / "src" / "own")
    files = UserFiles(str(project))
    assert files.is_own(str(project / "shared" / "tools.py"))
    assert files.is_own(str(packages / "own" / "core.py"))
    assert not files.is_own(str(packages / "other" / "core.py"))
    assert files.is_own(str(packages / "other" / ".." / ".." / ".." / "project" / "core.py"))
    (tmp_path / "alias").symlink_to(project)
    assert UserFiles(str(tmp_path / "alias")).is_own(str(project / "train.py"))


def test_a_package_that_is_installed_to_be_worked_on_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "env" / "site-packages"
    for name, facts in {
        "own": {"url": f"file://{tmp_path}/my%20code", "dir_info": {"editable": True}},
        "copied": {"url": f"file://{tmp_path}/copied", "dir_info": {}},
        "fetched": {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git"}},
        "broken": [],
    }.items():
        record = packages / f"{name}-1.0.dist-info" / "direct_url.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps(facts))
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    files = UserFiles(str(tmp_path / "project"))
    assert files.is_own(str(tmp_path / "my code" / "src" / "own" / "core.py"))
    assert not files.is_own(str(tmp_path / "copied" / "core.py"))
