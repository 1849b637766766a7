"""Libraries that open files past Python's audit hooks are made to raise the event that an opening raises, before they open them.

A guest is looked at once it is loaded, never before. Openings that only compiled code sees (``netCDF4.Dataset``, ``pyarrow.OSFile``) stay unheard.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any

from dartvc.model.records import NamedTuple

__all__ = ["expect_foreign_writer", "watch_foreign_writers"]

_EMPTIED = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_HDF5_FLAGS = {"r+": os.O_RDWR, "a": os.O_RDWR | os.O_CREAT}
_REST_EMPTIES = frozenset({"w", "w-", "x"})


class _Opener(NamedTuple):
    """A function that opens a file: where the path stands among its arguments, and whether HDF5's mode stands behind it."""

    name: str
    place: int
    keyword: str
    has_mode: bool = False


_POLARS_FRAME = tuple(
    _Opener(f"DataFrame.write_{form}", 1, "file") for form in ("avro", "csv", "ipc", "ipc_stream", "json", "ndjson", "parquet")
)
_OPENERS: dict[str, tuple[_Opener, ...]] = {
    "catboost.core": (_Opener("CatBoost.save_model", 1, "fname"),),
    "cv2": (_Opener("imwrite", 0, "filename"),),
    "h5py._hl.files": (_Opener("make_fid", 0, "name", has_mode=True),),
    "lightgbm.basic": (_Opener("Dataset.save_binary", 1, "filename"),),
    "pandas.io.parquet": (_Opener("PyArrowImpl.write", 2, "path"),),
    "polars.dataframe.frame": _POLARS_FRAME,
    "polars.lazyframe.frame": tuple(_Opener(f"LazyFrame.sink_{form}", 1, "path") for form in ("csv", "ipc", "ndjson", "parquet")),
    "pyarrow.csv": (_Opener("write_csv", 1, "output_file"),),
    "pyarrow.feather": (_Opener("write_feather", 1, "dest"),),
    "pyarrow.parquet.core": (_Opener("ParquetWriter.__init__", 1, "where"),),
    "safetensors.numpy": (_Opener("serialize_file", 1, "filename"),),
    "safetensors.torch": (_Opener("serialize_file", 1, "filename"),),
    "tables.file": (_Opener("File.__init__", 1, "filename", has_mode=True),),
    "torch.serialization": (_Opener("_open_zipfile_writer_file.__init__", 1, "name"),),
    "xgboost.core": (_Opener("Booster.save_model", 1, "fname"), _Opener("DMatrix.save_binary", 1, "fname")),
}
_unwatched = set(_OPENERS)


def watch_foreign_writers() -> None:
    """Lets audit hooks hear of the paths that the loaded libraries open."""
    for name in _unwatched & sys.modules.keys():
        _watch(sys.modules[name])


def expect_foreign_writer(name: str) -> None:
    """Does the same for a module that is about to be imported, as soon as it is; costs a look-up for any other."""
    if name in _unwatched:
        sys.meta_path.insert(0, _Finder(name))


class _Finder:
    """Stands first among the finders for the import of one module, and has it watched when it was executed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Returns what the other finders find."""
        if name != self._name and self._name in _unwatched:
            return None
        with suppress(ValueError):
            sys.meta_path.remove(self)
        if name != self._name:
            return None
        found = (finder.find_spec(name, path, target) for finder in list(sys.meta_path) if finder is not self)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and name in _unwatched:
            with suppress(AttributeError):
                _watch_after(spec.loader)
        return spec


def _watch_after(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        vars(loader).pop("exec_module", None)
        execute(module)
        _watch(module)

    loader.exec_module = exec_module


def _watch(module: types.ModuleType) -> None:
    if module.__name__ not in _unwatched:
        return
    for opener in _OPENERS[module.__name__]:
        owner, _, name = opener.name.rpartition(".")
        with suppress(AttributeError):  # another version's
            holder: Any = attrgetter(owner)(module) if owner else module
            setattr(holder, name, _raising(getattr(holder, name), opener))
            _unwatched.discard(module.__name__)


def _raising(plain: Callable[..., Any], opener: _Opener) -> Callable[..., Any]:
    """Returns a function that raises the event ``open`` before it does what ``plain`` does."""

    @functools.wraps(plain)
    def opening(*arguments: Any, **options: Any) -> Any:
        path = arguments[opener.place] if len(arguments) > opener.place else options.get(opener.keyword)
        if isinstance(path, str | bytes | os.PathLike) and "://" not in os.fsdecode(path):
            mode = "w"
            if opener.has_mode:
                mode = (arguments[opener.place + 1] if len(arguments) > opener.place + 1 else options.get("mode")) or "r"
            flags = _EMPTIED if mode in _REST_EMPTIES else _HDF5_FLAGS.get(mode, os.O_RDONLY)
            sys.audit("open", os.fspath(path), mode, flags)
        return plain(*arguments, **options)

    return opening
