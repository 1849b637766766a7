"""``run``, ``resume``, ``runs``. The first two start programs, so they are parsed without Typer, which costs more than a short script."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError, NotFoundError, RefusedError, UntrustedError, UsageError

if TYPE_CHECKING:
    from dartvc.history import Repository
    from dartvc.sessions.runs import Run

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Runs ``dvc-state run ...`` or ``dvc-state resume ...`` in this process and returns the program's exit code."""
    try:
        return _run(argv[1:]) if argv[0] == "run" else _resume(argv[1:])
    except DartvcError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return error.exit_code


def run_parser() -> argparse.ArgumentParser:
    """Returns the options of ``run``."""
    parser = argparse.ArgumentParser("dvc-state run", description="Run an unmodified program, recorded.")
    parser.add_argument("--max-overhead", type=float, default=1.0, metavar="PERCENT", help="share of the run time that commits may take")
    parser.add_argument("--every", type=float, default=0.0, metavar="SECONDS", help="commit at least so often")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="the value that dartvc.arg(NAME) returns")
    parser.add_argument("script", help="the program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser


def resume_parser() -> argparse.ArgumentParser:
    """Returns the options of ``resume``."""
    parser = argparse.ArgumentParser("dvc-state resume", description="Continue a run from its last commit, or from that commit.")
    parser.add_argument("revision", nargs="?", default="", metavar="REV", help="a commit of the run")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="continue with another value of a variable")
    parser.add_argument("--trust", action="store_true", help="load a commit that was made elsewhere")
    parser.add_argument("--code", choices=["recorded", "current"], default="", help="which code to go on with when the script was edited")
    parser.add_argument("--max-overhead", type=float, default=1.0, metavar="PERCENT", help="share of the run time that commits may take")
    parser.add_argument("--every", type=float, default=0.0, metavar="SECONDS", help="commit at least so often")
    return parser


def _run(argv: Sequence[str]) -> int:
    options = run_parser().parse_args(argv)
    if not os.path.isfile(options.script):
        raise UsageError(f"there is no file {options.script}", kind="no-script", hint="dvc-state run SCRIPT [ARGUMENTS]")
    _fix_hash_seed("")
    from dartvc.history import Repository
    from dartvc.shims.script import RunOptions, run_script

    try:
        repository = Repository.open()
    except NotFoundError:
        repository = Repository.init()
    chosen = RunOptions(options.max_overhead / 100, options.every, _pairs(options.set))
    return run_script(repository, options.script, [options.script, *options.arguments], chosen)


def _resume(argv: Sequence[str]) -> int:
    from dartvc.history import Repository
    from dartvc.sessions.runs import find_resumable, read_sources
    from dartvc.shims.script import RunOptions, resume_script

    options = resume_parser().parse_args(argv)
    repository = Repository.open()
    start = repository.resolve(options.revision) if options.revision else _last_run(repository)
    commit, run = find_resumable(repository, start)
    if not options.trust and not repository.is_trusted(commit.oid):
        raise UntrustedError(
            f"commit {commit.oid[:8]} was made on another machine; resuming it would run its code",
            kind="untrusted",
            hint="repeat with --trust if you know its author",
        )
    if run.exit_code is None and not options.revision and _is_over(repository, start):
        raise NotFoundError("the last run has ended; there is nothing to resume", kind="run-over", hint="dvc-state resume REV goes back into it")
    _fix_hash_seed(run.hash_seed)
    text = read_sources(repository, commit.oid).get(run.script, "")
    text = _choose_code(run, text, options.code)
    chosen = RunOptions(options.max_overhead / 100, options.every)
    _follow(repository, commit.oid)
    return resume_script(repository, run, commit.oid, text, chosen, from_start=commit.position is None, sets=_pairs(options.set))


def _last_run(repository: Repository) -> str:
    from dartvc.history.repository import Repository as History

    assert isinstance(repository, History)
    tips = [oid for _, oid in repository.database.refs.iter_refs("refs/runs/")]
    if not tips:
        raise NotFoundError("there is no run here", kind="no-run", hint="dvc-state run SCRIPT")
    return max((repository.commit(oid) for oid in tips), key=lambda commit: commit.time).oid


def _is_over(repository: Repository, oid: str) -> bool:
    from dartvc.model import CommitKind, Oid

    return repository.commit(Oid(oid)).kind is CommitKind.END


def _follow(repository: Repository, oid: str) -> None:
    """Makes HEAD the commit that the run goes on from; an old line of commits keeps a branch of its own."""
    from dartvc.history import RefMove
    from dartvc.host.entropy import new_id
    from dartvc.model import Oid
    from dartvc.store import Head

    head = repository.database.refs.head()
    if head.oid == oid:
        return
    tips = [name for name, tip in repository.database.refs.iter_refs("refs/heads/") if tip == oid]
    name = tips[0] if tips else f"refs/heads/resumed-{new_id(3)}"
    moves = [] if tips else [RefMove(name, None, Oid(oid))]
    repository.move_refs(moves, operation="resume", description=f"resume {oid[:8]}", head=Head(name, Oid(oid)))


def _choose_code(run: Run, recorded: str, choice: str) -> str:
    """Returns the script's text to go on with.

    Raises:
        RefusedError: the script was edited since and nobody said which text counts.
    """
    try:
        with open(run.script, encoding="utf-8") as file:
            current = file.read()
    except OSError:
        return recorded
    if current == recorded or choice == "recorded":
        return recorded
    if choice == "current":
        return current
    name = os.path.basename(run.script)
    diff = difflib.unified_diff(recorded.splitlines(), current.splitlines(), f"{name} (as it ran)", f"{name} (now)", lineterm="", n=2)
    sys.stderr.write("\n".join(diff) + "\n")
    raise RefusedError(
        f"{name} was edited since the commit", kind="code-changed", hint="repeat with --code recorded, or with --code current"
    )


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"{text!r} is not NAME=VALUE", kind="bad-set", hint="--set lr=0.01")
        pairs[name] = value
    return pairs


def _fix_hash_seed(recorded: str) -> None:
    """Starts this process again with a known seed for str hashes: the order of sets is part of what a resume must repeat."""
    present = os.environ.get("PYTHONHASHSEED", "random")
    wanted = recorded or (present if present != "random" else str(int.from_bytes(os.urandom(4), "little")))
    if present != wanted:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": wanted})
