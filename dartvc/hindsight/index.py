"""Keeping the relations up with the repository: what was added since the last time is read, nothing else.

A run's segments only grow, so those that are known are skipped by number. Where a run was resumed from an earlier commit its log has another
end: then the run is read again. The tail in the journal of a run that is going on, or was killed, is read anew each time.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dartvc.errors import DartvcError
from dartvc.hindsight.journal import read_lines, tail_sizes, tails
from dartvc.hindsight.loops import Loop
from dartvc.hindsight.records import REPLAYED as REPLAYED_CHUNK
from dartvc.hindsight.records import Chunk, decode_chunks
from dartvc.hindsight.relations import ARGUMENT, LEVEL, RECORDED, REPLAYED, connect, in_memory, is_busy
from dartvc.hindsight.segments import LogTip, harvest, log_tips, segments_of
from dartvc.hindsight.values import kind_of
from dartvc.history import Repository
from dartvc.history.logs import read_segment
from dartvc.model import CommitKind, Oid
from dartvc.sessions.files import RunFile, files_of
from dartvc.store import TreeEntry

__all__ = ["NAN", "Index", "column_value"]

NAN = 1 << 8
"""Bit of a series' kinds: it has values that are no number."""
BIG = 1 << 9
"""Bit of a series' kinds: it has integers of more than 64 bits."""
_INTEGER_LIMIT = 1 << 63
_ENTRY_LIMIT = (1 << 16) - 1
_ITERATION_LIMIT = (1 << 32) - 1


def column_value(stored: object) -> object:
    """Returns what the index keeps of a stored value: a number, a text, or None for what is no number."""
    if isinstance(stored, dict):
        if "json" in stored:
            return json.dumps(stored["json"])
        return stored["text"] if "text" in stored else json.dumps(stored)
    if isinstance(stored, float) and math.isnan(stored):
        return None
    if isinstance(stored, int) and not -_INTEGER_LIMIT <= stored < _INTEGER_LIMIT:
        return str(stored)
    return stored


class Index:
    """The relations of one repository.

    Attributes:
        connection: where they are.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._path = repository.path / "index" / "relations.sqlite"
        self.connection = connect(self._path)
        self._names: dict[str, int] = {}
        self._loops: dict[Loop, int] = {}

    def refresh(self) -> None:
        """Adds what the repository has gained since the last time."""
        harvest(self.repository)
        try:
            self._refresh()
        except sqlite3.DatabaseError as error:  # a damaged or locked cache is no reason not to answer
            self.connection.close()
            self.connection = in_memory() if is_busy(error) else connect(self._path, anew=True)
            self._names.clear()
            self._loops.clear()
            self._refresh()

    def _refresh(self) -> None:
        run_sql = self.connection.execute
        known = dict(run_sql("SELECT ref, oid FROM tip_"))
        tips = list(log_tips(self.repository))
        changed = [tip for tip in tips if known.get(tip.ref) != tip.oid]
        gone = set(known) - {tip.ref for tip in tips}
        journals = list(tails(self.repository.path))
        followed = [run for (run,) in run_sql("SELECT DISTINCT r.run FROM tail_file_ t JOIN run_ r ON r.id = t.run")]
        if not (changed or gone or journals or followed):
            return
        run_sql("BEGIN IMMEDIATE")
        try:
            living = {run for run, _ in journals} - {ref.rpartition("/")[2] for ref in (*gone, *(tip.ref for tip in changed))}
            for run in followed:
                if run not in living:
                    self._drop_tail(self._run_id(run))
            for ref in gone:
                self._drop_ref(ref)
            changed.sort(key=lambda tip: self.repository.commit(tip.oid).time)
            for tip in changed:
                self._add_tip(tip)
            for run, folder in journals:
                self._add_tail(run, folder)
            run_sql("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                run_sql("ROLLBACK")
            self._names.clear()
            self._loops.clear()
            raise

    # -- runs -----------------------------------------------------------------------------------------------------------------

    def _run_id(self, run: str) -> int:
        self.connection.execute("INSERT OR IGNORE INTO run_(run) VALUES (?)", (run,))
        return int(self.connection.execute("SELECT id FROM run_ WHERE run = ?", (run,)).fetchone()[0])

    def _add_tip(self, tip: LogTip) -> None:
        run_id = self._run_id(tip.run)
        segments = segments_of(self.repository, tip)
        known = [oid for (oid,) in self.connection.execute("SELECT oid FROM segment_ WHERE ref = ? ORDER BY number", (tip.ref,))]
        if known != [segment.oid for segment in segments[: len(known)]]:
            self._drop_ref(tip.ref)
            known = []
        self.connection.execute("INSERT OR REPLACE INTO tip_ VALUES (?, ?, ?)", (tip.ref, tip.oid, run_id))
        self._describe(tip, run_id)
        for number, segment in enumerate(segments[len(known) :], len(known)):
            self._add_segment(run_id, segment)
            self.connection.execute("INSERT INTO segment_ VALUES (?, ?, ?)", (tip.ref, number, segment.oid))

    def _add_segment(self, run_id: int, segment: TreeEntry) -> None:
        for chunk in decode_chunks(read_segment(self.repository.database, segment)):
            self._add_chunk(run_id, chunk)

    def _drop_ref(self, ref: str) -> None:
        """Forgets what a ref named; what else is known of its run is read again."""
        found = self.connection.execute("SELECT run FROM tip_ WHERE ref = ?", (ref,)).fetchone()
        if found is None:
            return
        for table in ("record_", "context_", "series_", "argument_", "file_", "tag_"):
            self.connection.execute(f"DELETE FROM {table} WHERE run = ?", found)
        refs = [each for (each,) in self.connection.execute("SELECT ref FROM tip_ WHERE run = ?", found)]
        for each in refs:
            self.connection.execute("DELETE FROM tip_ WHERE ref = ?", (each,))
            self.connection.execute("DELETE FROM segment_ WHERE ref = ?", (each,))
        if refs == [ref] and self.repository.database.refs.read(ref) is None:
            self.connection.execute("DELETE FROM run_ WHERE id = ?", found)
        for each in refs:
            oid = self.repository.database.refs.read(each)
            if each != ref and oid is not None:
                self._add_tip(LogTip(each, each.rpartition("/")[2], oid))

    def _describe(self, tip: LogTip, run_id: int) -> None:
        """Writes what is known of a run itself."""
        repository = self.repository
        commit = repository.commit(tip.oid)
        entries = repository.process(tip.oid)
        facts: dict[str, Any] = repository.summary(entries["run"]) if "run" in entries else {}
        if facts and facts.get("id") != tip.run:
            facts = {}
        state = {CommitKind.END: "done", CommitKind.EXCEPTION: "failed", CommitKind.MANUAL: "done"}.get(commit.kind, "open")
        if facts.get("exit_code"):
            state = "failed"
        oldest, count = self._oldest(tip, run_id)
        imported = facts.get("imported") or {}
        row = (
            facts.get("script"),
            json.dumps(facts.get("argv", [])),
            facts.get("cwd"),
            facts.get("state", state),
            facts.get("exit_code"),
            facts.get("started", oldest),
            facts.get("ended", commit.time.timestamp()),
            tip.oid,
            count,
            facts.get("name"),
            f"{imported['tool']}:{imported['origin']}" if imported else None,
        )
        run_sql = self.connection.execute
        if not self._is_attached(tip):
            run_sql(
                "UPDATE run_ SET script = ?, command = ?, cwd = ?, state = ?, exit_code = ?, started = ?, ended = ?, tip = ?, commits = ?,"
                " name = ?, origin = ? WHERE id = ?",
                (*row, run_id),
            )
            tags = [(run_id, name, value) for name, value in (facts.get("tags") or {}).items()]
            run_sql("DELETE FROM tag_ WHERE run = ?", (run_id,))
            self.connection.executemany("INSERT OR REPLACE INTO tag_ VALUES (?, ?, ?)", tags)
            self._add_files(run_id, files_of(repository, entries), commit.time.timestamp())

    def _is_attached(self, tip: LogTip) -> bool:
        """Whether a tip names what was attached to a run that has a ref of its own."""
        return tip.ref.startswith("refs/logs/") and self.repository.database.refs.read(f"refs/runs/{tip.run}") is not None

    def _add_files(self, run_id: int, files: Sequence[RunFile], time_s: float) -> None:
        self.connection.execute("DELETE FROM file_ WHERE run = ?", (run_id,))
        rows = [
            (run_id, each.path, each.access, each.size, each.modified_ns, each.digest, json.dumps(each.place) if each.place else None, time_s)
            for each in files
        ]
        self.connection.executemany("INSERT OR REPLACE INTO file_ VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _oldest(self, tip: LogTip, run_id: int) -> tuple[float, int]:
        """Returns when a run began and how many commits it has; only commits that are new are read."""
        before = self.connection.execute("SELECT started, commits, tip FROM run_ WHERE id = ?", (run_id,)).fetchone()
        count, oid, time_s = 0, tip.oid, 0.0
        while True:
            if before is not None and oid == before[2] and before[0] is not None:
                return float(before[0]), count + int(before[1])
            commit = self.repository.commit(oid)
            if count and commit.run != tip.run:
                return time_s, count
            count, time_s = count + 1, commit.time.timestamp()
            if not commit.parents:
                return time_s, count
            oid = commit.parents[0]

    # -- records --------------------------------------------------------------------------------------------------------------

    def _drop_tail(self, run_id: int) -> None:
        """Takes out what the journal of a run had added: a commit holds it now, or it is gone."""
        run_sql = self.connection.execute
        for row in run_sql("SELECT run, key, name, seq FROM tail_ WHERE run = ?", (run_id,)).fetchall():
            run_sql("DELETE FROM record_ WHERE run = ? AND key = ? AND name = ? AND seq = ?", row)
        run_sql("DELETE FROM series_ WHERE run = ?", (run_id,))
        run_sql("INSERT INTO series_ SELECT * FROM series_before_ WHERE run = ?", (run_id,))
        for table in ("tail_", "tail_file_", "series_before_"):
            run_sql(f"DELETE FROM {table} WHERE run = ?", (run_id,))

    def _add_tail(self, run: str, folder: Path) -> None:
        """Adds the records of a journal that no commit holds; of a file that is known only what was appended."""
        run_sql = self.connection.execute
        run_id = self._run_id(run)
        known = dict(run_sql("SELECT name, size FROM tail_file_ WHERE run = ?", (run_id,)))
        present = tail_sizes(folder)
        if any(present.get(name, -1) < size for name, size in known.items()):
            self._drop_tail(run_id)  # a process that went on from a commit began it anew
            known = {}
        if not known:
            run_sql("INSERT INTO series_before_ SELECT * FROM series_ WHERE run = ?", (run_id,))
        first = -1
        for name, size in present.items():
            start = known.get(name, 0)
            lines = read_lines(folder, name, start) if size > start else b""
            if lines and first < 0:
                first = self._committed(run)
            for chunk in decode_chunks(lines, is_torn=True):
                if chunk.first >= first:
                    rows = self._add_chunk(run_id, chunk)
                    self.connection.executemany("INSERT INTO tail_ VALUES (?, ?, ?, ?)", [row[:4] for row in rows])
                    run_sql("UPDATE run_ SET started = coalesce(started, ?) WHERE id = ?", (chunk.times_s[0], run_id))
            run_sql("INSERT OR REPLACE INTO tail_file_ VALUES (?, ?, ?)", (run_id, name, start + len(lines)))

    def _committed(self, run: str) -> int:
        """Returns how many records of a run its commits hold."""
        first = 0
        for ref in (f"refs/runs/{run}", f"refs/logs/{run}"):
            last = self.connection.execute("SELECT oid FROM segment_ WHERE ref = ? ORDER BY number DESC LIMIT 1", (ref,)).fetchone()
            if last is not None:
                chunks = list(decode_chunks(read_segment(self.repository.database, self._entry(ref, last[0]))))
                first = max([first, *(chunk.first + len(chunk.names) for chunk in chunks if chunk.source != REPLAYED_CHUNK)])
        return first

    def _entry(self, ref: str, oid: str) -> TreeEntry:
        tip = LogTip(ref, ref.rpartition("/")[2], self.repository.database.refs.read(ref) or Oid(""))
        return next(segment for segment in segments_of(self.repository, tip)[::-1] if segment.oid == oid)

    def _add_chunk(self, run_id: int, chunk: Chunk) -> list[tuple[object, ...]]:
        """Adds the records of a chunk; returns their rows."""
        self._void(run_id, chunk.replaces)
        keys, paths = self._add_contexts(run_id, chunk)
        source = REPLAYED if chunk.source == REPLAYED_CHUNK else RECORDED
        ids = {name: self._name_id(name) for name in set(chunk.names)}
        own = self._own_names(run_id) if source == REPLAYED else frozenset()
        series: dict[tuple[int, bytes, int], list[object]] = {}
        seen: dict[tuple[bytes, int], int] = {}
        rows: list[tuple[object, ...]] = []
        for index, (name, stored, context) in enumerate(zip(chunk.names, chunk.values, chunk.contexts, strict=True)):
            name_id = ids[name]
            if name_id in own:
                continue
            key, path = (keys[context], paths[context]) if context >= 0 else (b"", b"")
            is_argument = index in chunk.arguments
            kind = kind_of(stored)
            value = stored if kind in (3, 4) and stored == stored else column_value(stored)
            count = seen[key, name_id] = seen.get((key, name_id), -1) + 1
            number = count if source == REPLAYED else chunk.first + index
            rows.append((run_id, key, name_id, number, value, kind, chunk.times_s[index], ARGUMENT if is_argument else source))
            bits = 1 << kind | (NAN if kind == 3 and value is None else 0) | (BIG if kind == 2 and isinstance(value, str) else 0)
            place = (name_id, path, source)
            known = series.get(place)
            if known is None:
                series[place] = [bits, count > 0, key, key]
            else:
                known[0] |= bits  # type: ignore[operator]
                known[1] = known[1] or count > 0
                known[3] = key
            if is_argument:
                standard, is_given = chunk.arguments[index]
                row = (run_id, name_id, value, kind, column_value(standard), is_given)
                self.connection.execute("INSERT OR REPLACE INTO argument_ VALUES (?, ?, ?, ?, ?, ?)", row)
        self.connection.executemany("INSERT OR REPLACE INTO record_ VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._add_series(run_id, series)
        return rows

    def _add_series(self, run_id: int, series: dict[tuple[int, bytes, int], list[object]]) -> None:
        """Takes note of which loops each name was logged in, of which kinds its values are, and whether it came twice in one iteration."""
        for (name_id, path, source), (bits, repeats, first, last) in series.items():
            before = self.connection.execute(
                "SELECT kinds, repeats, last FROM series_ WHERE run = ? AND name = ? AND path = ? AND source = ?",
                (run_id, name_id, path, source),
            ).fetchone()
            if before is not None:
                bits, repeats = before[0] | bits, before[1] or repeats or (before[2] == first and source != REPLAYED)
            row = (run_id, name_id, path, source, bits, int(bool(repeats)), last)
            self.connection.execute("INSERT OR REPLACE INTO series_ VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _add_contexts(self, run_id: int, chunk: Chunk) -> tuple[list[bytes], list[bytes]]:
        """Adds the contexts of a chunk; returns of each its key and its path (the loops alone)."""
        loops = [self._loop_id(loop) for loop in chunk.loops]
        keys: list[bytes] = []
        paths: list[bytes] = []
        rows = []
        scalars: dict[int, int] = {}
        for parent, loop, entry, iteration, targets in zip(
            chunk.parents, chunk.loop_of, chunk.entries, chunk.iterations, chunk.targets, strict=True
        ):
            above, above_path = (keys[parent], paths[parent]) if parent >= 0 else (b"", b"")
            key = above + LEVEL.pack(loops[loop], min(entry, _ENTRY_LIMIT), min(max(0, iteration), _ITERATION_LIMIT))
            keys.append(key)
            paths.append(above_path + loops[loop].to_bytes(2, "big"))
            value = column_value(targets[0]) if targets else None
            if len(targets) > 1:
                scalars[loop] = scalars.get(loop, 0) | sum(1 << at for at, each in enumerate(targets[:30]) if each is not None)
            rows.append((run_id, key, iteration, value, json.dumps(targets) if len(targets) > 1 else None))
        self.connection.executemany("INSERT OR IGNORE INTO context_ VALUES (?, ?, ?, ?, ?)", rows)
        for loop, bits in scalars.items():
            self.connection.execute("UPDATE loop_ SET scalars = scalars | ? WHERE id = ?", (bits, loops[loop]))
        return keys, paths

    def _void(self, run_id: int, names: Sequence[str]) -> None:
        """Takes out what earlier replays found of some names."""
        for name in names:
            given = (run_id, self._name_id(name), REPLAYED)
            self.connection.execute("DELETE FROM record_ WHERE run = ? AND name = ? AND source = ?", given)
            self.connection.execute("DELETE FROM series_ WHERE run = ? AND name = ? AND source = ?", given)

    def _own_names(self, run_id: int) -> frozenset[int]:
        """Returns the names that a run recorded itself: they are not replaced by what a replay found."""
        found = self.connection.execute("SELECT DISTINCT name FROM series_ WHERE run = ? AND source = ?", (run_id, RECORDED))
        return frozenset(name for (name,) in found)

    def _name_id(self, name: str) -> int:
        known = self._names.get(name)
        if known is None:
            self.connection.execute("INSERT OR IGNORE INTO name_(name) VALUES (?)", (name,))
            known = self._names[name] = int(self.connection.execute("SELECT id FROM name_ WHERE name = ?", (name,)).fetchone()[0])
        return known

    def _loop_id(self, loop: Loop) -> int:
        known = self._loops.get(loop)
        if known is None:
            identity = (loop.function, loop.name, loop.ordinal, loop.file)
            self.connection.execute(
                "INSERT OR IGNORE INTO loop_(function, name, ordinal, file, line, targets, is_for) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*identity, loop.line, json.dumps(loop.targets), loop.is_for),
            )
            found = self.connection.execute("SELECT id FROM loop_ WHERE function = ? AND name = ? AND ordinal = ? AND file = ?", identity)
            known = self._loops[loop] = int(found.fetchone()[0])
        return known

    # -- commits and variables ------------------------------------------------------------------------------------------------

    def refresh_commits(self, names: Iterable[str] | None = None) -> None:
        """Adds the commits that are new, and for some variables (None: all) what each commit holds of them; nothing is unpickled."""
        run_sql = self.connection.execute
        run_sql("BEGIN IMMEDIATE")
        try:
            self._add_commits()
            self._add_variables(names)
            run_sql("COMMIT")
        except BaseException:
            run_sql("ROLLBACK")
            raise

    def _add_commits(self) -> None:
        refs = self.repository.database.refs
        tips = list(dict.fromkeys(oid for _, oid in refs.iter_refs("refs/")))
        known = {oid for (oid,) in self.connection.execute("SELECT oid FROM commit_")}
        hide = [Oid(oid) for oid in known if oid in set(tips)]
        rows = []
        for commit in self.repository.iter_log([tip for tip in tips if tip not in known], hide=hide):
            if commit.oid not in known:
                place = commit.position
                where = (place.file, place.line, place.function) if place is not None else (None, None, None)
                rows.append((commit.oid, commit.run, commit.time.timestamp(), commit.kind.value, commit.subject, *where, commit.error))
        self.connection.executemany(
            "INSERT INTO commit_(oid, run, time, kind, message, file, line, function, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows[::-1]
        )

    def _add_variables(self, names: Iterable[str] | None) -> None:
        wanted = None if names is None else sorted(set(names))
        run_sql = self.connection.execute
        upto = run_sql("SELECT max(id) FROM commit_").fetchone()[0] or 0
        everything = run_sql("SELECT upto FROM looked_up_ WHERE name = ''").fetchone()
        done = dict(run_sql("SELECT name, upto FROM looked_up_"))
        start = everything[0] if everything else 0
        least = start if wanted is None else min((max(start, done.get(name, 0)) for name in wanted), default=upto)
        if least >= upto:
            return
        for commit_id, oid in run_sql("SELECT id, oid FROM commit_ WHERE id > ?", (least,)).fetchall():
            self._add_variables_of(commit_id, Oid(oid), wanted)
        marks = [("", upto)] if wanted is None else [(name, upto) for name in wanted]
        self.connection.executemany("INSERT OR REPLACE INTO looked_up_ VALUES (?, ?)", marks)

    def _add_variables_of(self, commit_id: int, oid: Oid, wanted: Sequence[str] | None) -> None:
        try:
            entries = self.repository.names(oid)
        except DartvcError:
            return
        for name, entry in entries.items():
            if "._." in name or (wanted is not None and name not in wanted and name.rpartition("().")[2] not in wanted):
                continue
            row = (commit_id, name, entry.summary_oid)
            self.connection.execute("INSERT OR IGNORE INTO variable_ VALUES (?, ?, ?)", row)
            if self.connection.execute("SELECT 1 FROM summary_ WHERE oid = ?", (entry.summary_oid,)).fetchone() is None:
                summary = self.repository.summary(entry)
                value, kind = _scalar_of(summary)
                text = None if kind >= 0 else json.dumps(summary)
                row_of_summary = (entry.summary_oid, column_value(value), max(kind, 0), summary.get("type"), text)
                self.connection.execute("INSERT OR IGNORE INTO summary_ VALUES (?, ?, ?, ?, ?)", row_of_summary)


def _scalar_of(summary: dict[str, object]) -> tuple[object, int]:
    """Returns the value that a summary tells and its kind, -1 when it is no scalar."""
    import ast

    text, kind = summary.get("repr"), str(summary.get("type"))
    if not isinstance(text, str):
        return None, (0 if kind == "NoneType" else -1)
    if text in ("nan", "inf", "-inf"):
        return float(text), 3
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None, -1
    return (value, kind_of(value)) if value is None or isinstance(value, bool | int | float | str) else (None, -1)
