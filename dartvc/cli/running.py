"""``run``, ``resume``, ``runs``. A plain command line of the first two is parsed by hand: Typer costs more than a short script."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dartvc.cli.seed import begin_again, is_seed, note_last
from dartvc.errors import DartvcError, LockedError, NotFoundError, RefusedError, UntrustedError, UsageError
from dartvc.model.records import NamedTuple

if TYPE_CHECKING:
    from dartvc.history import Repository
    from dartvc.model import Commit, Oid
    from dartvc.sessions.atomic import AtomicRun
    from dartvc.sessions.runs import Run

__all__ = ["StartOptions", "check_code", "check_device", "parse_plainly", "start"]

_DEVICE = r"(cpu|cuda|hpu|ipu|mps|mtia|npu|xla|xpu)(:\d+)?$"
_CODES = ("recorded", "current")


class StartOptions(NamedTuple):
    """A command line of ``run`` or ``resume``: the program or the revision first in ``words``, then the program's arguments."""

    verb: str
    words: Sequence[str] = ()
    max_overhead: float | None = None
    every: float | None = None
    sets: Sequence[str] = ()
    trust: bool = False
    code: str = ""
    force: bool = False
    module: str = ""
    reuse: str = ""
    is_atomic: bool = False
    map_device: str = ""
    grace: float = 5.0


def parse_plainly(argv: Sequence[str]) -> StartOptions | None:
    """Fast path: reads a command line without Typer; None when it holds anything that only Typer should judge."""
    found: dict[str, Any] = {}
    sets: list[str] = []
    rest = list(argv[1:])
    while rest and rest[0].startswith("-"):
        name, separator, value = rest.pop(0).partition("=")
        if name in ("--reuse", "--partial-reuse") and not separator:
            found["reuse"] = "partial" if name == "--partial-reuse" or found.get("reuse") == "partial" else "full"
            continue
        if name == "--atomic" and argv[0] == "run" and not separator:
            found["is_atomic"] = True
            continue
        if name == "--trust" and argv[0] == "resume" and not separator:
            found["trust"] = True
            continue
        if name == "--force" and argv[0] == "resume" and not separator:
            found["force"] = True
            continue
        if argv[0] == "run" and name.startswith("-m") and rest[:1]:
            module, words = (name[2:], [name[2:], *rest]) if name[2:] else (rest[0], rest)
            return StartOptions("run", words, sets=sets, module=module, **found)
        if name not in ("--max-overhead", "--every", "--grace", "--set") and not (name in ("--code", "--map-device") and argv[0] == "resume"):
            return None
        if not separator:
            if not rest:
                return None
            value = rest.pop(0)
        try:
            if name == "--set":
                sets.append(value)
            else:
                found[name[2:].replace("-", "_")] = value if name in ("--code", "--map-device") else float(value)
        except ValueError:
            return None
    is_plain = bool(rest) if argv[0] == "run" else len(rest) <= 1 and found.get("code", "recorded") in _CODES and re.match(_DEVICE, found.get("map_device", "cpu"))
    return StartOptions(argv[0], rest, sets=sets, **found) if is_plain else None


def start(options: StartOptions) -> int:
    """Runs a program, or continues one, in this process; returns its exit code."""
    gc.disable()  # what is made until the program begins stays: it is frozen then, and collecting begins
    try:
        return _run(options) if options.verb == "run" else _resume(options)
    except DartvcError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return error.exit_code
    finally:
        if not gc.get_freeze_count():  # else the program began, and it is for the program to say
            gc.enable()


def _run(options: StartOptions) -> int:
    begin_again("0" if options.reuse and "PYTHONHASHSEED" not in os.environ else "")
    try:
        script, module = _find_module(options.module) if options.module else (options.words[0], "")
    except DartvcError:
        raise
    except Exception as error:  # of a package's own code
        from dartvc.shims.failures import print_failure

        print_failure(error, "", "")
        return 1
    if not os.path.isfile(script):
        raise UsageError(f"there is no file {script}", kind="no-script", hint="dvc-state run SCRIPT [ARGUMENTS]")
    from dartvc.history import Repository
    from dartvc.shims.script import RunOptions, run_script

    try:
        repository = Repository.open()
    except NotFoundError:
        repository = Repository.init()
    note_last(repository.path, os.environ.get("PYTHONHASHSEED", ""))
    _settle_dead_runs(repository, options.is_atomic)
    chosen = RunOptions(*_pace(options, repository), options.grace, _pairs(options.sets), options.is_atomic, options.reuse)
    return run_script(repository, script, options.words, chosen, module=module)


def _pace(options: StartOptions, repository: Repository) -> tuple[float, float]:
    """Returns the share of the run time that commits may take and the seconds between two of them, from the command line or the settings."""
    from dartvc.history.config import parse_duration_s, parse_percent

    config = repository.config
    share = parse_percent(config.get("dartvc.maxOverhead")) if options.max_overhead is None else options.max_overhead
    return share / 100, parse_duration_s(config.get("dartvc.every")) if options.every is None else options.every


def _settle_dead_runs(repository: Repository, is_atomic: bool) -> None:
    """Ends the atomic runs that were killed before another one begins; a plain run only says that they are there.

    Raises:
        RefusedError: files of one cannot be put back.
    """
    if not (repository.path / "atomic").is_dir():
        return
    from dartvc.sessions.atomic import open_runs, settle
    from dartvc.shims.endings import describe_settled

    for run in open_runs(repository):
        if not is_atomic:
            sys.stderr.write(f"dartvc: run {run.run_id} was killed and its files stand half done: dvc-state resume, or dvc-state abort\n")
            continue
        settled = settle(repository, run)
        sys.stderr.writelines(f"dartvc: {line}\n" for line in describe_settled(settled))
        if settled.files.refused:
            raise RefusedError(
                f"run {run.run_id} cannot be rolled back", kind="not-rolled-back", hint=f"dvc-state abort --leave-files {run.run_id} gives it up"
            )


def _find_module(name: str) -> tuple[str, str]:
    """Returns the source file of a module and its full name, as ``python -m`` finds them."""
    import importlib.util

    sys.path[0:1] = [os.getcwd()]
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UsageError(f"there is no module {name} to run", kind="no-script", hint="dvc-state run -m MODULE [ARGUMENTS]")
    return spec.origin, spec.name


def _resume(options: StartOptions) -> int:
    from dartvc.history import Repository

    repository = Repository.open()
    tip = repository.resolve(options.words[0]) if options.words else _last_run(repository)
    if seed := _seed_of(repository, tip):
        begin_again(seed)  # as early as it is known: what is imported from here on takes most of the time
    from dartvc.sessions.recorded import find_resumable, read_sources
    from dartvc.sessions.relocation import write_missing_sources
    from dartvc.sessions.runs import run_facts
    from dartvc.shims.script import RunOptions, resume_script

    atomic = _atomic_of(repository, tip)
    _refuse_living(repository, tip)
    if not options.words and atomic is not None and atomic.state in ("rolled back", "left"):
        sys.stderr.write(f"dartvc: the last run was {atomic.state}; dvc-state resume REV goes back into it\n")
        return 1
    if not options.words and _is_over(repository, tip):
        ended = run_facts(repository.summary(repository.process(tip)["run"])).exit_code or 0
        sys.stderr.write(f"dartvc: the last run ended by itself with exit code {ended}; dvc-state resume REV goes back into it\n")
        return ended
    commit, run = find_resumable(repository, tip)
    if not options.trust and not repository.is_trusted(commit.oid):
        raise UntrustedError(
            f"commit {commit.oid[:8]} was made on another machine; resuming it would run its code",
            kind="untrusted",
            hint="repeat with --trust if you know its author",
        )
    sets, device = _pairs(options.sets), check_device(options.map_device)
    _check_sets(repository, commit.oid, sets)
    begin_again(run.hash_seed)
    sources = {**_last_sources(repository, run), **read_sources(repository, commit.oid)}
    _compare_environment(repository.environment(commit.oid), sources, commit, options.force)
    text, fixed, replaced = _choose_code(run, sources, options.code)
    for path in write_missing_sources(sources, run.project):
        sys.stderr.write(f"dartvc: {os.path.relpath(path, run.project)} is not here; it was written from the commit\n")
    _tell_effects(repository, commit)
    if sys.stderr.isatty():
        place = commit.position
        where = f"{os.path.basename(place.file)}:{place.line} in {place.function}" if place is not None else "the beginning"
        sys.stderr.write(f"dartvc: run {commit.run} goes on from {commit.oid[:8]}, {where}\n")
    if atomic is None:
        _follow(repository, commit.oid)
    note_last(repository.path, run.hash_seed)
    reuse = options.reuse or run.reuse
    run = run._replace(reuse=reuse)
    chosen = RunOptions(*_pace(options, repository), options.grace, is_atomic=atomic is not None, reuse=reuse, fixed=fixed, replaced=replaced)
    return resume_script(repository, run, commit.oid, text, chosen, from_start=commit.position is None, sets=sets, map_device=device)


def _check_sets(repository: Repository, oid: Oid, sets: Mapping[str, str]) -> None:
    """Refuses values for variables that a commit does not have.

    Raises:
        NotFoundError: neither the script nor a frame has such a variable there.
    """
    if not sets:
        return
    known = set()
    for entry in repository.names(oid):
        place, _, name = entry.rpartition(".")
        if not place or "()" in place:  # a variable of the script, or of a frame: main().lr
            known.add(name)
    for name in sets:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"dvc-state ls {oid[:8]}"
            raise NotFoundError(f"there is no variable {name} at {oid[:8]}", kind="unknown-name", hint=hint)


def _seed_of(repository: Repository, tip: Oid) -> str:
    """Returns the seed of str hashes of the run that a commit belongs to; empty when it belongs to none, or what stands there is no seed."""
    entry = repository.process(tip).get("run") if repository.commit(tip, with_refs=False).run else None
    seed = str(repository.summary(entry).get("hash_seed", "")) if entry is not None else ""
    return seed if is_seed(seed) else ""


def _atomic_of(repository: Repository, tip: Oid) -> AtomicRun | None:
    """Returns the record of the atomic run that a commit belongs to; None when it belongs to none."""
    run_id = repository.commit(tip, with_refs=False).run
    if not run_id or not (repository.path / "atomic").is_dir():
        return None
    from dartvc.sessions.atomic import find_atomic

    return find_atomic(repository, run_id)


def _refuse_living(repository: Repository, tip: Oid) -> None:
    """Refuses to go on with a run that has not ended: both would write to the same files.

    Raises:
        LockedError: its process lives.
    """
    from dartvc.sessions.registry import living_sessions

    run_id = repository.commit(tip, with_refs=False).run
    for session in living_sessions(repository.path):
        if run_id and session.run_id == run_id and session.pid != os.getpid():
            raise LockedError(f"run {run_id} is still running (process {session.pid})", kind="run-alive", hint="dvc-state runs")


def _last_sources(repository: Repository, run: Run) -> dict[str, str]:
    """Returns the sources that the newest commit of a run has: modules that it had not imported yet at an earlier one, too."""
    from dartvc.sessions.recorded import read_sources

    tip = repository.database.refs.read(f"refs/runs/{run.run_id}")
    return read_sources(repository, tip) if tip is not None and repository.is_trusted(tip) else {}


def _compare_environment(recorded: Mapping[str, object], sources: Mapping[str, str], commit: Commit, force: bool) -> None:
    """Says what is not here as it was where the commit was made.

    Raises:
        RefusedError: the program cannot go on here as it would have there.
    """
    from dartvc.sessions.surroundings import judge

    verdict = judge(recorded, sources.values(), has_position=commit.position is not None)
    for difference in verdict.differences:
        sys.stderr.write(f"dartvc: {difference}\n")
    if verdict.obstacles and not (force and verdict.can_be_forced):
        hint = "repeat with --force to try all the same" if verdict.can_be_forced else verdict.remedy
        raise RefusedError("; ".join(verdict.obstacles), kind="other-environment", hint=hint)


def _tell_effects(repository: Repository, commit: Commit) -> None:
    """Says what the program did after the commit that no resume takes back."""
    from dartvc.program.acts import describe_acts
    from dartvc.sessions.recorded import acts_after

    since = describe_acts(acts_after(repository, commit))
    if since:
        sys.stderr.write(f"dartvc: since this commit the program had {since}: that is not undone, and may happen twice\n")


def _last_run(repository: Repository) -> Oid:
    tips = [oid for _, oid in repository.database.refs.iter_refs("refs/runs/")]
    head = repository.database.refs.head().oid
    if not tips and head is not None and repository.commit(head, with_refs=False).run:
        return head
    if not tips:
        raise NotFoundError("there is no run here", kind="no-run", hint="dvc-state run SCRIPT")
    return max((repository.commit(oid, with_refs=False) for oid in tips), key=lambda commit: commit.time).oid


def _is_over(repository: Repository, oid: Oid) -> bool:
    from dartvc.model import CommitKind

    return repository.commit(oid, with_refs=False).kind is CommitKind.END


def _follow(repository: Repository, oid: Oid) -> None:
    """Makes HEAD the commit that the run goes on from; an old line of commits keeps a branch of its own."""
    from dartvc.history import RefMove
    from dartvc.host.entropy import new_id
    from dartvc.store import Head

    head = repository.database.refs.head()
    if head.oid == oid:
        return
    tips = [name for name, tip in repository.database.refs.iter_refs("refs/heads/") if tip == oid]
    name = tips[0] if tips else f"refs/heads/resumed-{new_id(3)}"
    moves = [] if tips else [RefMove(name, None, oid)]
    repository.move_refs(moves, operation="resume", description=f"resume {oid[:8]}", head=Head(name, oid))


def _choose_code(run: Run, sources: Mapping[str, str], choice: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Returns the script's text to go on with, the texts of edited modules that count as they ran, and those that ran where others count now.

    Raises:
        RefusedError: some were edited since and nobody said which texts count.
    """
    paths = sorted(sources, key=lambda path: path != run.script)
    edited = {path: text for path in paths if (text := _present_text(run, path)) is not None and text != sources[path]}
    recorded = sources.get(run.script, "")
    if choice == "current":
        return edited.get(run.script, recorded), {}, {path: sources[path] for path in edited}
    if edited and choice != "recorded":
        import difflib

        for path, text in edited.items():
            name = os.path.relpath(path, os.path.dirname(run.script))
            diff = difflib.unified_diff(sources[path].splitlines(), text.splitlines(), f"{name} (as it ran)", f"{name} (now)", lineterm="", n=2)
            sys.stderr.write("\n".join(diff) + "\n")
        names = ", ".join(os.path.basename(path) for path in edited)
        were = "were" if len(edited) > 1 else "was"
        hint = "repeat with --code recorded, or with --code current"
        raise RefusedError(f"{names} {were} edited since the commit", kind="code-changed", hint=hint)
    return recorded, {path: sources[path] for path in edited if path != run.script}, {}


def _present_text(run: Run, path: str) -> str | None:
    """Returns what a source file holds now; None where it cannot be read."""
    import tokenize

    try:
        if path == run.script:
            from dartvc.shims.texts import read_program

            return read_program(path)
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def check_code(choice: str) -> str:
    """Returns which code a resume goes on with; empty when nothing was said.

    Raises:
        UsageError: there is no such choice.
    """
    if choice and choice not in _CODES:
        raise UsageError(f"--code is {' or '.join(_CODES)}, and not {choice!r}", kind="bad-code", hint="dvc-state resume --code recorded")
    return choice


def check_device(device: str) -> str:
    """Returns the name of a device as torch has it; empty when none is meant.

    Raises:
        UsageError: it is none.
    """
    if device and not re.match(_DEVICE, device):
        raise UsageError(f"{device!r} is no device", kind="bad-device", hint="--map-device cpu")
    return device


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"{text!r} is not NAME=VALUE", kind="bad-set", hint="--set lr=0.01")
        pairs[name] = value
    return pairs
