"""Commands that keep a repository well: fsck, du, doctor, config, trust, gc, jupyter."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dartvc.cli.context import current
from dartvc.cli.text import counted, size
from dartvc.errors import UsageError
from dartvc.model import short

__all__ = ["register"]

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for function in (gc, fsck, du, doctor, config, trust, completion):
        app.command(function.__name__)(function)
    jupyter = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="record every notebook without a line in it")
    jupyter.command("enable")(jupyter_enable)
    jupyter.command("disable")(jupyter_disable)
    app.add_typer(jupyter, name="jupyter")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only tell what would go")] = False,
    keep_last: Annotated[int | None, typer.Option("--keep-last", metavar="N", min=0, help="automatic commits to keep on each branch")] = None,
    keep_within: Annotated[str | None, typer.Option("--keep-within", metavar="AGE", help="keep automatic commits younger than 7d, 12h ...")] = None,
    keep_best: Annotated[str | None, typer.Option("--keep-best", metavar="WAY:NAME:K", help="keep the K commits with the best value: max:acc:3")] = None,
    prune: Annotated[str | None, typer.Option("--prune", metavar="AGE", help="drop what nothing needs and is older; default: dartvc.gracePeriod, 1h")] = None,
    is_json: Json = False,
) -> None:
    """Thins automatic commits by age and gives space back to the disk; named commits always stay.

    What is said here of commits to keep goes before dartvc.undoWindow: the others cannot be undone one by one any more.
    """
    from dataclasses import replace

    from dartvc.history.config import parse_best, parse_duration_s
    from dartvc.history.retention import retention_of
    from dartvc.porcelain.upkeep import clean

    context = current()
    repository = context.repository
    rules = retention_of(repository)
    if keep_last is not None:
        rules = replace(rules, keep_last=keep_last)
    if keep_within is not None:
        rules = replace(rules, keep_within_s=parse_duration_s(keep_within))
    if keep_best is not None:
        rules = replace(rules, best=parse_best(keep_best))
    rules = replace(rules, with_undo=keep_last is None and keep_within is None)
    done = clean(repository, rules, dry_run=dry_run, prune_s=None if prune is None else 0.0 if prune == "now" else parse_duration_s(prune))
    if is_json:
        context.json("gc", {"thinned": done.thinned, "report": done.report, "journals": done.journals})
        return
    would = "would be " if dry_run else ""
    report = done.report
    context.out(
        f"{counted(len(done.thinned), 'automatic commit')} {would}thinned, {counted(report.dropped_objects, 'object')} {would}dropped, "
        f"{size(report.freed_bytes)} {would}freed"
    )
    if done.journals:
        context.out(f"{len(done.journals)} journals of runs and cells that nothing goes on from {would}removed")


def fsck(
    loadable: Annotated[bool, typer.Option("--loadable", help="load every value of HEAD in this process")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="first put a damaged HEAD and damaged refs back, by the operation log")] = False,
    is_json: Json = False,
) -> None:
    """Checks every stored byte and names what is wrong; exits 1 then. Damaged packs are put aside, so that committing equal data heals."""
    from dartvc.porcelain.checking import check, put_back

    context = current()
    repaired = put_back(context.repository) if repair else []
    problems = list(check(context.repository, loadable=loadable))
    if is_json:
        context.json("fsck", {"items": problems, "repaired": repaired})
    else:
        for each in repaired:
            context.out(f"{each.name}: put back to {each.after}" if each.after else f"{each.name}: removed, for nothing is known of where it was ({each.before!r})")
        for problem in problems:
            context.out(f"{problem.where}: {problem.detail}" + (f" ({problem.remedy})" if problem.remedy else ""))
        if not problems:
            context.out("every object, ref and commit is sound")
    if problems:
        raise typer.Exit(1)


def du(is_json: Json = False) -> None:
    """Tells what the repository weighs, and which names of HEAD weigh most."""
    context = current()
    repository = context.repository
    total = sum(entry.stat().st_blocks * 512 for entry in repository.path.rglob("*") if entry.is_file())
    head = context.workspace.head
    seen: set[str] = set()
    rows: list[tuple[str, int]] = []
    for name, entry in (repository.names(head) if head is not None else {}).items():
        if entry.payload_oid is not None and entry.payload_oid not in seen:
            seen.add(entry.payload_oid)
            rows.append((name, repository.payload(entry.payload_oid).size_bytes))
    rows.sort(key=lambda row: -row[1])
    if is_json:
        context.json("du", {"bytes": total, "items": [{"name": name, "bytes": count} for name, count in rows]})
        return
    context.out(f"{size(total):>10}  on disk, the whole history")
    for name, count in rows[:20]:
        context.out(f"{size(count):>10}  {name}")


def doctor(is_json: Json = False) -> None:
    """Looks for what could trouble a session: damage, another Python, packages of other versions, names that are not stored, a full disk."""
    import os
    import shutil

    from dartvc.history.environment import compare_environments, describe_environment
    from dartvc.history.fsck import check_repository

    context = current()
    repository = context.repository
    damage = [each for each in check_repository(repository) if each.kind != "seal"]
    findings = [f"{counted(len(damage), 'problem')} in what is stored: dvc-state fsck"] if damage else []
    head = context.workspace.head
    if head is not None:
        present: Any = describe_environment(repository.root, {})
        for what, before, after in compare_environments(repository.environment(head), present):
            findings.append(f"{what}: recorded {before}, here {after}")
        for name, entry in repository.names(head).items():
            if entry.payload_oid is None:
                recipe = repository.recipe(entry)
                findings.append(f"{recipe.get('path', name)} is not stored: {recipe.get('reason')} {recipe.get('remedy', '')}".rstrip())
        if not repository.is_trusted(head):
            findings.append(f"HEAD ({short(head)}) was made on another machine: dvc-state trust HEAD if you know its author")
    if not os.access(repository.path, os.W_OK):
        findings.append(f"{repository.path} is not writable: nothing can be recorded (is the file system mounted read-only? who owns the folder?)")
    free = shutil.disk_usage(repository.path).free
    if free < 1 << 30:
        findings.append(f"only {size(free)} are free on this disk")
    if is_json:
        context.json("doctor", {"items": findings})
        return
    for finding in findings:
        context.out(finding)
    if not findings:
        context.out("nothing found that could trouble a session")


def config(
    key: Annotated[str | None, typer.Argument(help="none: list all")] = None,
    value: Annotated[str | None, typer.Argument(help="none: print it")] = None,
    is_list: Annotated[bool, typer.Option("--list", "-l", help="list all, as without a key")] = False,
    is_got: Annotated[bool, typer.Option("--get", help="print it, as without a value")] = False,
    is_unset: Annotated[bool, typer.Option("--unset", help="take the setting away: its default holds again")] = False,
    is_json: Json = False,
) -> None:
    """Prints, sets or unsets the repository's configuration."""
    context = current()
    settings = context.repository.config
    if is_list and key is not None:
        raise UsageError("--list goes without a key", kind="bad-arguments", hint=f"dvc-state config {key}, or dvc-state config --list")
    if (is_got or is_unset) and (key is None or value is not None):
        raise UsageError("--get and --unset take a key and no value", kind="bad-arguments", hint="dvc-state config --list names the keys")
    if key is not None:
        if is_unset:
            settings.get(key)
        if is_unset or value is not None:
            context.repository.configure(key, value)
            if is_unset and not is_json:
                return
        found = settings.get(key)
        if is_json:
            context.json("config", {"key": key, "value": found})
        elif value is None:
            context.out(found)
    else:
        items = dict(settings.list())
        if is_json:
            context.json("config", {"items": items})
        else:
            for each, text in items.items():
                context.out(f"{each}={text}")


def trust(revision: Annotated[str, typer.Argument(metavar="REV", help="the commit whose author you know")] = "HEAD") -> None:
    """Takes note that a commit made on another machine may be restored here."""
    context = current()
    oid = context.repository.resolve(revision, head=context.workspace.head)
    context.repository.trust(oid)
    context.out(f"{short(oid)} is trusted on this machine")


def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish")]) -> None:
    """Prints what a shell reads to complete revisions, names, runs and settings: source <(dvc-state completion bash)."""
    from dartvc.cli.completion import SHELLS, script_of

    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}", kind="unknown-shell", hint=f"one of {', '.join(SHELLS)}")
    current().stdout.write(script_of(shell))


def jupyter_enable(
    kernelspec: Annotated[
        bool, typer.Option("--kernelspec", help='install the kernel "Python 3 (dartvc)" and leave the others alone')
    ] = False,
) -> None:
    """Records every notebook and IPython session of this user from now on."""
    from dartvc.shims import jupyter

    context = current()
    for line in jupyter.enable_kernelspec() if kernelspec else jupyter.enable():
        context.out(line)


def jupyter_disable() -> None:
    """Takes back what `jupyter enable` did."""
    from dartvc.shims import jupyter

    context = current()
    for line in jupyter.disable():
        context.out(line)
