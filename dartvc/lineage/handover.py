"""Results that the processes of one run hand to each other: a file each, in a folder that lives as long as the run.

A worker may be killed at any moment, so a file is whole or absent; it is read only with this machine's seal. What is in the folder at the end goes
to the repository (`Shelf`), and so does what a run that was killed has left in its own.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

from dartvc.lineage.holdings import Frozen
from dartvc.lineage.shelf import Stored, sealed
from dartvc.store.trust import Seals

__all__ = ["Handover"]

_ROWS = "rows-"
_RESULT = ".result"
_CLAIMS = "claims"
_BUDGET_BYTES = 2 << 30


class Handover:
    """The folder of one run.

    Args:
        folder: where.
        seals: this machine's.
    """

    def __init__(self, folder: Path, seals: Seals) -> None:
        self.folder = folder
        self._seals = seals
        self._given_bytes = 0
        self._rows = -1

    @property
    def claims(self) -> Path:
        """The file of the claims."""
        return self.folder / _CLAIMS

    def give(self, stored: Stored) -> None:
        """Hands a result to the others; does nothing when the disk refuses."""
        if self._given_bytes > _BUDGET_BYTES:
            return
        frozen = stored.frozen
        facts = {**stored.facts, "buffers": [[len(part), xxh3_128_hexdigest(part)] for part in frozen.buffers]}
        facts["seal"] = self._seals.seal(sealed(stored.key, facts, frozen.stream))
        head = json.dumps({"facts": facts, "stream": len(frozen.stream)}).encode()
        path = self._path(stored.key)
        temporary = path.with_name(f"tmp_{stored.key}.{os.getpid()}.{threading.get_native_id()}")
        try:
            with open(temporary, "wb") as file:
                file.writelines((head + b"\n", frozen.stream, *frozen.buffers))
            temporary.rename(path)
            self._given_bytes += frozen.size_bytes
        except OSError:
            temporary.unlink(missing_ok=True)

    def find(self, key: str) -> Stored | None:
        """Returns a result that another process of the run, or this one, has computed."""
        try:
            with open(self._path(key), "rb") as file:
                head = json.loads(file.readline())
                facts = head["facts"]
                stream = file.read(int(head["stream"]))
                buffers = [bytearray(int(size)) for size, _ in facts["buffers"]]
                sizes = [file.readinto(buffer) for buffer in buffers]
            if not self._seals.is_ours(sealed(key, facts, stream), str(facts.get("seal", ""))):
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for buffer, size, (_, digest) in zip(buffers, sizes, facts["buffers"], strict=True):
            if size != len(buffer) or xxh3_128_hexdigest(buffer) != digest:
                return None
        return Stored(key, facts, Frozen(stream, tuple(memoryview(buffer) for buffer in buffers)))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_RESULT}"

    def iter_results(self) -> Iterator[Stored]:
        """Yields everything that was handed over."""
        for path in sorted(self.folder.glob(f"*{_RESULT}")):
            stored = self.find(path.stem)
            if stored is not None:
                yield stored

    def begin_anew(self) -> None:
        """Begins an account of its own in a forked child."""
        self._rows = -1

    def report(self, row: dict[str, Any]) -> None:
        """Adds to the account of this process: of each site the last row counts."""
        try:
            if self._rows < 0:
                self._rows = os.open(self.folder / f"{_ROWS}{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(self._rows, json.dumps(row).encode() + b"\n")
        except OSError:
            pass

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """Yields what each process has said last of each site."""
        for path in sorted(self.folder.glob(f"{_ROWS}*")):
            last: dict[tuple[Any, ...], dict[str, Any]] = {}
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    last[row["name"], row["file"], row["line"]] = row
                except (ValueError, KeyError):
                    continue  # torn by a kill
            yield from last.values()

    def remove(self) -> None:
        """Takes the folder away."""
        import shutil  # milliseconds that only a run with workers pays

        shutil.rmtree(self.folder, ignore_errors=True)
