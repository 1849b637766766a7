"""Making a value again from its lineage: the slice of the program that it needs runs in a folder of its own, and what it makes is compared with what was stored.

Nothing of the project is touched: the slice sees copies of the files that the run read, as long as they are what they were, and what it writes goes with the folder.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dartvc.errors import RefusedError, UntrustedError
from dartvc.history import Repository
from dartvc.history.digests import digest_of_file
from dartvc.lineage.traces.commits import Trace, shown_paths, trace_commit
from dartvc.lineage.traces.items import FILE, iter_items
from dartvc.model import Oid, short
from dartvc.porcelain.likeness import are_alike, without_identities
from dartvc.porcelain.verification import ENTRY
from dartvc.sessions.files import OWN, READ, RunFile, files_of
from dartvc.state.loading import Loading, load
from dartvc.state.saving import Saving, save

__all__ = ["Recomputation", "are_same", "recompute_name", "slices_for"]

_COMPARISON = """
import sys
from pathlib import Path
from dartvc.porcelain.recomputing import are_same
folder, tip, path, oid, name = sys.argv[1:]
sys.exit(not are_same((Path(folder), tip), (Path(path).parent, oid), name))
"""
_TAIL = 12
_CELLS = "cells.ipynb"


@dataclass(frozen=True, slots=True)
class Recomputation:
    """What came of making a value again.

    Attributes:
        name: whose value.
        is_equal: it is what is stored; None: it was not made.
        seconds: what that took, with the start of Python.
        lines: of the program that ran; ``of_lines``: of the whole.
        problem: why it was not made: the end of what the program said.
    """

    name: str
    is_equal: bool | None
    seconds: float
    lines: int
    of_lines: int
    problem: str = ""


def slices_for(repository: Repository, name: str, oid: Oid) -> dict[str, str]:
    """Returns the parts of the program that a name's value needs, by file; the script, or the cells in one, comes first.

    Raises:
        NotFoundError: no statement is seen to make it.
    """
    return _slices(trace_commit(repository, oid, name), name)


def _slices(trace: Trace, name: str) -> dict[str, str]:
    trace.known_item(name)
    return {file: text for file, text in trace.slices(name).items() if text}


def recompute_name(repository: Repository, name: str, oid: Oid, *, trust: bool = False) -> Recomputation:
    """Runs what a name's value needs, and compares.

    Raises:
        NotFoundError: no statement is seen to make it.
        RefusedError: a file that it was made from is not what it was, or the name belongs to a function.
        UntrustedError: the commit was made elsewhere.
    """
    if not trust and not repository.is_trusted(oid):
        raise UntrustedError(f"{short(oid)} was made elsewhere, and this runs its code", kind="untrusted", hint="--trust runs it")
    if "()." in name:
        raise RefusedError(
            f"{name} belongs to a function that was running", kind="recompute", hint=f"dvc-state lineage {name} shows what it was made from"
        )
    trace = trace_commit(repository, oid, name)
    slices = _slices(trace, name)
    folder = Path(tempfile.mkdtemp(prefix="dartvc-recompute-"))
    try:
        return _run(repository, trace, name, oid, slices, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(repository: Repository, trace: Trace, name: str, oid: Oid, slices: dict[str, str], folder: Path) -> Recomputation:
    root = repository.root
    run = trace.run
    for file, text in slices.items():
        path = folder / (file if run is not None else _CELLS)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_as_notebook(text) if path.suffix == ".ipynb" else text, encoding="utf-8", errors="surrogatepass")
    needed = {each.literals[0] for each in iter_items(trace.known_item(name)) if each.opcode == FILE}
    for each in files_of(repository, repository.process(oid)):
        if os.path.isabs(each.path) or each.path.startswith(".."):
            continue
        if each.access == READ or (each.access == OWN and not needed.isdisjoint(shown_paths(repository.root, each.path, run))):
            _bring(root, each, folder)
        else:
            (folder / each.path).parent.mkdir(parents=True, exist_ok=True)
    script = os.path.relpath(run.script, root) if run is not None else _CELLS
    cwd = folder / (os.path.relpath(run.cwd, root) if run is not None else "")
    cwd.mkdir(parents=True, exist_ok=True)
    seed = run.hash_seed if run is not None and run.hash_seed else "0"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    words = [sys.executable, "-c", ENTRY]
    subprocess.run([*words, "init"], cwd=folder, env=environment, capture_output=True, check=True)
    settings = [word for key, value in (run.arguments.items() if run is not None else ()) for word in ("--set", f"{key}={value}")]
    begin = time.perf_counter()
    argv = list(run.argv[1:]) if run is not None else []
    done = subprocess.run(
        [*words, "run", *settings, str(folder / script), *argv],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - begin
    lines = sum(text.count("\n") for text in slices.values())
    of_lines = sum(len(each.lines) for each in (trace.tracer.sources.values() if run is not None else trace.sources))
    if done.returncode:
        return Recomputation(name, None, seconds, lines, of_lines, _problem_in(done.stderr))
    return Recomputation(name, _is_equal(repository, oid, folder, folder / script, name), seconds, lines, of_lines)


def _as_notebook(text: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "source": text}]})


def _bring(root: Path, read: RunFile, folder: Path) -> None:
    """Copies a file that a run read, if it is still the same.

    Raises:
        RefusedError: it is not.
    """
    source, target = root / read.path, folder / read.path
    try:
        found = os.stat(source)
        is_same = (
            digest_of_file(str(source)) == read.digest
            if read.digest
            else (found.st_size, found.st_mtime_ns) == (read.size, read.modified_ns)
        )
    except OSError:
        is_same = False
    if not is_same:
        raise RefusedError(f"{read.path} is not what it was when it was read", kind="recompute", hint=f"dvc-state why {read.path}")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _problem_in(text: str) -> str:
    """Returns why a program failed, from what it wrote to standard error: the end of that, or which file it lacked."""
    lines = text.strip().splitlines()
    absent = re.match(r"FileNotFoundError: .*?(['\"].*['\"])", lines[-1]) if lines else None
    if absent is not None:
        return f"it reads {absent[1]}, which is no file that was there when the run began, and nothing in this part of the program is seen to write it"
    return "\n".join(lines[-_TAIL:])


def _is_equal(repository: Repository, oid: Oid, folder: Path, script: Path, name: str) -> bool:
    """Whether a name has the same value at a commit and at the end of the slice's run."""
    other = Repository.open(folder, walk_up=False)
    tip = other.database.refs.head().oid
    made = other.names(tip).get(name) if tip is not None else None
    stored = repository.names(oid)[name]
    if tip is None or made is None or made.payload_oid is None or stored.payload_oid is None:
        return False
    if made.payload_oid == stored.payload_oid or are_alike(other.payload(made.payload_oid), repository.payload(stored.payload_oid)):
        return True
    words = [sys.executable, "-c", _COMPARISON, str(folder), tip, str(repository.path), oid, name]
    path = os.pathsep.join(filter(None, [str(script.parent), str(folder), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(words, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


def are_same(one: tuple[Path, Oid], other: tuple[Path, Oid], name: str) -> bool:
    """Loads what two commits have under a name, without what shares memory with it, and compares: run in a process where the program's modules can be imported."""
    forms = []
    for path, oid in (one, other):
        repository = Repository.open(path, walk_up=False)
        payload = repository.payload(repository.names(oid)[name].payload_oid or Oid(""))
        space: dict[str, object] = {}
        value = load(payload.read_stream(), Loading(space, payload))[name]
        with suppress(Exception):
            value = copy.deepcopy(value)  # memory of its own, whoever held it: a view and a copy of equal content are the same value
        saved = save({name: value}, Saving(space, "__main__"))
        forms.append((without_identities(saved.stream), [bytes(each) for each in saved.buffers]))
    return forms[0] == forms[1]
