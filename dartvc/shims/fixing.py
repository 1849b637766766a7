"""Modules of a resumed program that count as they ran, though their files were edited since: imported from the recorded texts."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import linecache
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["import_as_recorded"]


def import_as_recorded(texts: Mapping[str, str]) -> None:
    """Lets later imports of source files execute these texts, by path; tracebacks show them, too."""
    known = {os.path.realpath(path): text for path, text in texts.items()}
    for path, text in texts.items():
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.meta_path.insert(0, _Finder(known))


class _Finder:
    """Finds what the path finder finds, with another text."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None) -> Any:
        """Returns the spec of a module whose text is recorded; None for any other."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        text = self._texts.get(os.path.realpath(spec.origin)) if spec is not None and spec.origin else None
        if spec is None or spec.origin is None or text is None:
            return None
        return importlib.util.spec_from_file_location(
            name, spec.origin, loader=_Loader(name, spec.origin, text), submodule_search_locations=spec.submodule_search_locations
        )


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_source(self, fullname: str) -> str:
        return self._text

    def get_code(self, fullname: str) -> types.CodeType:
        code: types.CodeType = compile(self._text, self.path, "exec", dont_inherit=True)
        return code
