"""Filters of warnings come back without the libraries that their categories come from."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dartvc.state.categories import described_filters, living_filters

LATER = "class Deprecated(UserWarning):\n    pass\n"


def test_a_filter_of_a_library_that_comes_later_works_when_it_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_later_library.py").write_text(LATER)
    stored = (("error", None, ("category", "a_later_library", "Deprecated"), None, 0), ("ignore", None, Warning, None, 0))
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings():
        warnings.filters[:] = living_filters(stored)  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]
        assert "a_later_library" not in sys.modules
        warnings.warn("a plain one is ignored", stacklevel=1)
        assert described_filters(warnings.filters) == stored
        library = __import__("a_later_library")
        with pytest.raises(library.Deprecated):
            warnings.warn("too old", library.Deprecated, stacklevel=1)
    monkeypatch.delitem(sys.modules, "a_later_library")


def test_categories_that_are_here_come_back_as_they_are() -> None:
    class Local(UserWarning):
        pass

    filters = [("ignore", None, each, None, 0) for each in (UserWarning, subprocess.SubprocessError, Local)]
    assert living_filters(described_filters(filters)) == filters
    assert described_filters(filters)[1][2] == ("category", "subprocess", "SubprocessError")
