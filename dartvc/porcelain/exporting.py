"""Variables of a commit as files that other tools read."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from dartvc.errors import NotFoundError, StorageError, UsageError
from dartvc.history import Repository
from dartvc.host.entropy import new_id
from dartvc.model import Oid, Omission
from dartvc.sessions import Session
from dartvc.store.durable import storage_errors

__all__ = ["FORMATS", "Exported", "ExportedFile", "export"]

FORMATS = ("npy", "npz", "parquet", "csv", "json", "pkl")
_MANY = frozenset({"npz", "json", "pkl"})


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file that was written, and the variables in it."""

    path: Path
    format: str
    names: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what it could not write."""

    oid: Oid
    files: tuple[ExportedFile, ...]
    omissions: tuple[Omission, ...] = ()


class _Unfit(Exception):
    """A value that a format has no words for."""


def export(
    repository: Repository, oid: Oid, names: Sequence[str], target: Path, form: str = "", *, is_folder: bool = False, trust: bool = False
) -> Exported:
    """Writes variables of a commit.

    Args:
        repository: where the commit is.
        oid: the commit.
        names: which; none: all, without modules, functions and classes.
        target: a file, or a folder in which each variable gets a file of its own.
        form: one of `FORMATS`; empty: what the file's ending says, in a folder what fits each value best.
        is_folder: whether ``target`` is a folder; made when it is not there.
        trust: the commit may be another machine's.

    Raises:
        NotFoundError: one of ``names`` is not in the commit.
        UsageError: the format is not known, or cannot hold what it is to hold.
        UntrustedError: the commit was made elsewhere.
        StorageError: the disk refused; the file is as it was.
    """
    form = form or ("" if is_folder else target.suffix.removeprefix("."))
    if form not in FORMATS and not (is_folder and not form):
        hint = f"--format {' or '.join(FORMATS)}" + ("" if form else f"; -o {target.name}/ is a folder with a file for each name")
        raise UsageError(f"{form or target.name!r} is no format", kind="export-format", hint=hint)
    recorded = repository.names(oid)
    for name in names:
        if name not in recorded:
            raise NotFoundError(f"{name!r} is not in {oid[:8]}", kind="unknown-name", hint=f"dvc-state show {oid[:8]}")
    wanted = list(dict.fromkeys(names)) or sorted(recorded)
    absent = {name for name in wanted if recorded[name].payload_oid is None}
    omissions = [Omission(name, name, str(repository.summary(recorded[name]).get("reason", "it was not stored"))) for name in absent]
    held = Session(repository, {}, is_shared=False).load(oid, [name for name in wanted if name not in absent], trust=trust)
    values = {
        name: held[name]
        for name in wanted
        if name in held and (names or not isinstance(held[name], ModuleType | FunctionType | BuiltinFunctionType | type))
    }
    if is_folder:
        files, unfit = _into_folder(values, target, form)
        return Exported(oid, tuple(files), (*omissions, *unfit))
    if form not in _MANY and len(values) != 1:
        raise UsageError(
            f"a .{form} file holds one variable, these are {len(values)}", kind="export-format", hint=f"name one, or -o {target.stem}/"
        )
    if not values:
        raise NotFoundError(f"{oid[:8]} has nothing to export", kind="nothing-to-export", hint=f"dvc-state show {oid[:8]}")
    try:
        return Exported(oid, (_write(values, target, form, is_single=len(names) == 1),), tuple(omissions))
    except _Unfit as reason:
        raise UsageError(
            f"{form} cannot hold it: {reason}", kind="export-format", hint=f"-o {target.stem}.pkl, or -o {target.stem}/"
        ) from reason


def _into_folder(values: Mapping[str, object], folder: Path, form: str) -> tuple[list[ExportedFile], list[Omission]]:
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files: list[ExportedFile] = []
    unfit: list[Omission] = []
    for name, value in values.items():
        reason = ""
        for each in (form,) if form else _fitting(value):
            path = folder / f"{name.replace('/', '_')}.{each}"
            try:
                files.append(_write({name: value}, path, each, is_single=True))
                break
            except _Unfit as problem:
                reason = str(problem)
        else:
            unfit.append(Omission(name, name, reason))
    return files, unfit


def _fitting(value: object) -> tuple[str, ...]:
    """Returns the formats that fit a value, the best first."""
    if _is_frame(value):
        return ("parquet", "csv")
    if _is_array(value):
        return ("npy", "pkl")
    return ("json", "pkl")


def _write(values: Mapping[str, object], path: Path, form: str, *, is_single: bool) -> ExportedFile:
    """Writes a file, whole or not at all.

    Raises:
        _Unfit: the format cannot hold the values.
    """
    content: object = next(iter(values.values())) if is_single or form not in _MANY else dict(values)
    if form == "npz":
        content = dict(values)
    beside = path.with_name(f".{path.name}.{new_id()}.{form}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _WRITERS[form](content, beside)
            size = beside.stat().st_size
            os.replace(beside, path)
        except (_Unfit, OSError, StorageError):
            raise
        except Exception as error:
            raise _Unfit(f"{type(error).__name__}: {error}") from error
        finally:
            with suppress(OSError):
                beside.unlink()
    return ExportedFile(path, form, tuple(values), size)


def _is_frame(value: object) -> bool:
    return type(value).__name__ in ("DataFrame", "Series") and type(value).__module__.partition(".")[0] == "pandas"


def _is_array(value: object) -> bool:
    return any(
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}" in ("numpy.ndarray", "numpy.generic", "torch.Tensor")
        for kind in type(value).__mro__
    )


def _as_array(value: Any) -> Any:
    """Returns an array that needs no pickle to be read.

    Raises:
        _Unfit: there is none.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().resolve_neg().numpy()
    numpy = sys.modules.get("numpy")
    if numpy is None or not _is_array(value):
        raise _Unfit(f"{type(value).__name__} is no array")
    array = numpy.asarray(value)
    if array.dtype.hasobject:
        raise _Unfit(f"an array of {array.dtype} holds Python objects")
    return array


def _write_npy(value: object, path: Path) -> None:
    array = _as_array(value)
    with path.open("wb") as file:
        sys.modules["numpy"].lib.format.write_array(file, array, allow_pickle=False)


def _write_npz(values: Any, path: Path) -> None:
    arrays = {name: _as_array(value) for name, value in values.items()}
    with path.open("wb") as file:
        sys.modules["numpy"].savez(file, **arrays)


def _frame(value: Any) -> Any:
    if not _is_frame(value):
        raise _Unfit(f"{type(value).__name__} is no table")
    return value.to_frame() if type(value).__name__ == "Series" else value


def _write_parquet(value: object, path: Path) -> None:
    frame = _frame(value)
    if any(not isinstance(name, str) for name in frame.columns):
        frame = frame.rename(columns=str)
    try:
        frame.to_parquet(path)
    except ImportError as error:
        raise _Unfit("pandas needs pyarrow for it: pip install pyarrow") from error


def _write_csv(value: object, path: Path) -> None:
    frame = _frame(value)
    is_counted = type(frame.index).__name__ == "RangeIndex" and frame.index.name is None
    frame.to_csv(path, index=not is_counted)


def _write_json(value: object, path: Path) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise _Unfit(str(error)) from error
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> object:
    if _is_array(value):
        return _as_array(value).tolist()
    raise _Unfit(f"{type(value).__name__} is no plain data")


def _write_pkl(value: object, path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=4)


_WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "npy": _write_npy,
    "npz": _write_npz,
    "parquet": _write_parquet,
    "csv": _write_csv,
    "json": _write_json,
    "pkl": _write_pkl,
}
