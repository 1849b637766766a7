"""The version of a package is found beside it, and is the one that importlib.metadata tells."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path

import pytest

from dartvc.host import packages
from dartvc.host.packages import installed_version


def test_what_is_found_beside_a_package_is_what_the_metadata_of_all_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: metadata.version(found[0]) for name, found in metadata.packages_distributions().items()}
    names = [name for name in ("numpy", "pytest", "_pytest", "dateutil", "sklearn", "xxhash", "pygit2", "cffi") if name in known]
    monkeypatch.setattr(packages, "_version_by_metadata", lambda package: "")
    assert len(names) >= 4 and {name: installed_version(name) for name in names} == {name: known[name] for name in names}


@pytest.mark.parametrize("files", [{"top_level.txt": "inner_thing\n"}, {"RECORD": "inner_thing/__init__.py,,\n"}])
def test_a_distribution_of_another_name_is_found_by_what_it_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    (tmp_path / "inner_thing").mkdir()
    (tmp_path / "inner_thing" / "__init__.py").write_text("raise ImportError\n")
    info = tmp_path / "Outer_Thing-3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Outer-Thing\nVersion: 3.1+local\n\nVersion: not this one\n")
    for name, text in files.items():
        (info / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert installed_version("inner_thing") == "3.1+local"


def test_a_package_that_no_distribution_brought_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_thing.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert installed_version("own_thing") == ""
