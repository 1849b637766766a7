"""Weights & Biases' offline runs: the transaction log ``run-<id>.wandb``, read without the package.

A log is blocks of 32 KiB in the framing of LevelDB's log (checksum, length, type: whole, first, middle, last), behind a header of seven bytes; each entry is a protobuf
``Record`` (wandb_internal.proto), of which a few fields matter here. Fields keep their numbers from version to version, unknown ones are passed over. A log whose end was
lost with its process is read up to there.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dartvc.errors import CorruptError, NotFoundError
from dartvc.hindsight.importing.foreign import ForeignRecord, ForeignRun, LoopStep, RunSource

__all__ = ["find_wandb", "log_entries", "message_fields"]

_HEADER = b":W&B"
_HEADER_BYTES = 7
_BLOCK_BYTES = 32768
_FRAME = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT, _ENVIRONMENT = 2, 3, 5, 17, 18, 26
"""Numbers of the fields of a ``Record``."""
_INTERNAL = "_wandb"
Fields = list[tuple[int, Any]]


def find_wandb(path: Path) -> Iterator[RunSource]:
    """Yields the runs below a folder (a project, ``wandb``, one run's) or of one ``.wandb`` file; a run that was resumed has several files.

    Raises:
        NotFoundError: there is none.
    """
    files = (
        [path] if path.is_file() else sorted({each.resolve() for depth in ("", "*/", "wandb/*/") for each in path.glob(f"{depth}*.wandb")})
    )
    if not files:
        raise NotFoundError(f"there is no .wandb file at {path}", kind="no-store", hint="dvc-state import wandb wandb")
    by_run: dict[str, list[Path]] = {}
    for file in sorted(files, key=lambda file: (file.parent.name, file.name)):
        by_run.setdefault(file.stem.removeprefix("run-"), []).append(file)
    for run, parts in by_run.items():
        yield RunSource(f"run {run} ({parts[0]})", partial(_read, run, parts))


@dataclass
class _Log:
    """What the transaction logs of one run say so far."""

    run: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    started_s: float = 0.0
    config: dict[str, object] = field(default_factory=dict)
    summary: dict[str, object] = field(default_factory=dict)
    rows: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    exit_code: int | None = None
    program: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


def _read(run: str, parts: Sequence[Path]) -> ForeignRun:
    log = _Log()
    for part in parts:
        log.exit_code = None
        for entry in log_entries(part.read_bytes(), str(part)):
            for number, value in message_fields(entry):
                _take(log, number, value)
    _take_metadata(log, parts[-1].parent / "files" / "wandb-metadata.json")
    started = log.started_s or parts[0].stat().st_mtime
    records, ended = _records(log, started)
    logged = {record.name for record in records}
    further = {
        key: value
        for key, value in log.summary.items()
        if not key.startswith("_") and key.split(".")[0] not in logged and key not in logged
    }
    records += [ForeignRecord(key, value, ended) for key, value in further.items()]
    texts = {key: log.run[key] for key in ("project", "entity", "group", "job_type", "notes", "sweep", "host") if log.run.get(key)}
    return ForeignRun(
        tool="wandb",
        origin="/".join(filter(None, (log.run.get("entity"), log.run.get("project"), log.run.get("id") or run))),
        name=log.run.get("name", ""),
        started_s=started,
        ended_s=ended,
        state="open" if log.exit_code is None else "failed" if log.exit_code else "done",
        records=records,
        arguments=_flat(log.config),
        tags={**texts, **{f"tag:{tag}": "" for tag in log.tags}},
        script=log.program.get("program", ""),
        command=tuple(log.command),
        cwd=log.program.get("root", ""),
        revision=log.program.get("commit", ""),
    )


def _take_metadata(log: _Log, path: Path) -> None:
    """Reads what earlier releases keep in a file beside the log instead of in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(found, dict):
        texts = {"program": found.get("program"), "root": found.get("root"), "commit": (found.get("git") or {}).get("commit")}
        log.program.update((key, str(value)) for key, value in texts.items() if value)
        log.command = log.command or [str(each) for each in found.get("args") or ()]


def _flat(config: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Returns a configuration with a name for each value, ``optimizer.beta``, as W&B shows it."""
    flat: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _records(log: _Log, started: float) -> tuple[list[ForeignRecord], float]:
    records = []
    time_s = started
    for step, row in log.rows:
        moment = row.get("_timestamp")
        time_s = float(moment) if isinstance(moment, int | float) else time_s
        place = (LoopStep("step", step, step),)
        records += [ForeignRecord(key, value, time_s, place) for key, value in row.items() if not key.startswith("_")]
    return records, time_s


def _take(log: _Log, number: int, value: bytes) -> None:
    if number == _HISTORY:
        _take_row(log, value)
    elif number == _CONFIG:
        _change(log.config, value)
    elif number == _SUMMARY:
        _change(log.summary, value)
    elif number == _EXIT:
        log.exit_code = next((int(each) for at, each in message_fields(value) if at == 1), 0)
    elif number == _ENVIRONMENT:
        for at, each in message_fields(value):
            if at in (6, 11):
                log.program["program" if at == 6 else "root"] = each.decode()
            elif at == 5:
                log.command.append(each.decode())
            elif at == 9:
                log.program.update(("commit", text.decode()) for number, text in message_fields(each) if number == 2)
    elif number == _RUN:
        named = {1: "id", 2: "entity", 3: "project", 6: "group", 7: "job_type", 8: "name", 9: "notes", 12: "sweep", 13: "host"}
        for at, each in message_fields(value):
            if at in named:
                log.run[named[at]] = each.decode()
            elif at == 10 and each.decode() not in log.tags:
                log.tags.append(each.decode())
            elif at == 4:
                _change(log.config, each)
            elif at == 17 and not log.started_s:
                seconds = dict(message_fields(each))
                log.started_s = seconds.get(1, 0) + seconds.get(2, 0) / 1e9


def _take_row(log: _Log, message: bytes) -> None:
    row: dict[str, object] = {}
    step: int | None = None
    for number, value in message_fields(message):
        if number == 1:
            name, cell = _item(value)
            row[name] = cell
        elif number == 2:
            step = next((int(each) for at, each in message_fields(value) if at == 1), 0)
    if step is None:
        recorded = row.get("_step")
        step = recorded if isinstance(recorded, int) else (log.rows[-1][0] + 1 if log.rows else 0)
    log.rows.append((step, row))


def _change(mapping: dict[str, object], message: bytes) -> None:
    """Applies a record of changes to the configuration or the summary: updates (1), removals (2)."""
    for number, item in message_fields(message):
        name, value = _item(item)
        if number == 2:
            mapping.pop(name, None)
        elif number == 1 and name != _INTERNAL and not name.startswith(f"{_INTERNAL}."):
            mapping[name] = value


def _item(message: bytes) -> tuple[str, object]:
    """Returns the name and the value of an item: of history, configuration or summary."""
    name = ""
    nested: list[str] = []
    value: object = None
    for number, field_value in message_fields(message):
        if number == 1:
            name = field_value.decode()
        elif number == 2:
            nested.append(field_value.decode())
        elif number == 4:
            value = bool(field_value)
        elif number == 5:
            value = (field_value >> 1) ^ -(field_value & 1)  # sint64
        elif number == 6:
            value = struct.unpack("<d", field_value)[0]
        elif number == 7:
            value = field_value.decode()
        elif number in (8, 16):
            value = json.loads(field_value)
    return name or ".".join(nested), _plain(value)


def _plain(value: object) -> object:
    """Returns a value as it was logged: W&B writes numbers that JSON does not have as text."""
    return (
        {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(value, value) if isinstance(value, str) else value
    )


# -- the file ---------------------------------------------------------------------------------------------------------------


def log_entries(content: bytes, where: str) -> Iterator[bytes]:
    """Yields the entries of a transaction log; one that was cut off at the end is left out.

    Raises:
        CorruptError: it is no such log, or damaged before its end.
    """
    if content[: len(_HEADER)] != _HEADER:
        raise CorruptError(f"{where} is no transaction log of wandb", kind="wandb-log", hint="dvc-state import wandb wandb")
    place = _HEADER_BYTES
    parts: list[bytes] = []
    while place + _FRAME.size <= len(content):
        left = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left < _FRAME.size:
            place += left
            continue
        checksum, size, kind = _FRAME.unpack_from(content, place)
        data = content[place + _FRAME.size : place + _FRAME.size + size]
        if len(data) < size or (checksum, size, kind) == (0, 0, 0):
            return
        is_last = place + _FRAME.size + size >= len(content)
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            if is_last:  # its writer was killed
                return
            raise CorruptError(f"{where} is damaged at byte {place}", kind="wandb-log", hint="wandb sync --view tells more")
        place += _FRAME.size + size
        parts = [data] if kind in (_WHOLE, _FIRST) else [*parts, data]
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)


def message_fields(message: bytes) -> Fields:
    """Returns the (number, value) pairs of a protobuf message: int for numbers, bytes for everything else.

    Raises:
        ValueError: it is not one.
    """
    found: Fields = []
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, place = _varint(message, place)
        else:
            if kind == _BYTES:
                size, place = _varint(message, place)
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise ValueError(f"a protobuf field of kind {kind}")
            value = message[place : place + size]
            if len(value) < size:
                raise ValueError("a protobuf message ends in the middle of a field")
            place += size
        found.append((key >> 3, value))
    return found


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError("a protobuf number does not end")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
