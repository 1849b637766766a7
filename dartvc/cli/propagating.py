"""The command propagate."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

from dartvc.cli.context import Context, current
from dartvc.errors import UsageError

__all__ = ["register"]

_ANSWER = re.compile(r"(\d+):(\d+)")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("propagate")(propagate)


def propagate(
    old: Annotated[list[str], typer.Argument(help="the version, or versions, that lack log statements: scripts, notebooks, or a folder")],
    new: Annotated[str, typer.Argument(help="the version that has them")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="PATH", help="write there; a folder when there are several files")] = "",
    answers: Annotated[
        list[str] | None, typer.Option("--at", metavar="NEW:OLD", help="put the statement of that line of NEW after that line of OLD")
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Puts the log statements of a new version at their places in old ones; exits 1 with reasons where a place would be a guess."""
    from dartvc.porcelain.propagating import propagate_files, propagate_folders

    context = current()
    paths = [os.path.join(context.directory, each) for each in [*old, new]]
    if os.path.isdir(paths[-1]):
        if len(paths) != 2 or not os.path.isdir(paths[0]) or answers:
            raise UsageError("a folder is held against one other folder", kind="bad-folders", hint="dvc-state propagate OLD NEW -o PATCHED")
        patched = propagate_folders(*paths)
        names = [each.path for each in patched]
    else:
        patched = propagate_files(paths[:-1], paths[-1], _pairs(answers or []))
        names = list(old)
    if len(patched) > 1 and not output and not is_json:
        raise UsageError("several files need a folder to be written to", kind="no-output", hint="repeat with -o FOLDER")
    is_folder = len(patched) > 1 or os.path.isdir(paths[-1])
    for each, name in zip(patched, names, strict=True):
        if output:
            _write(
                os.path.join(context.directory, output, _inside(name)) if is_folder else os.path.join(context.directory, output), each.data
            )
        elif not is_json:
            _print(context, each.data)
    if is_json:
        items = [
            {
                "path": name,
                "placed": each.propagation.placements,
                "kept": each.propagation.kept,
                "refused": each.propagation.refusals,
                **({} if output else {"text": each.data.decode("utf-8", "replace")}),
            }
            for each, name in zip(patched, names, strict=True)
        ]
        context.json("propagate", {"items": items})
    refused = False
    for each, name in zip(patched, names, strict=True):
        if not (each.propagation.refusals or each.propagation.placements or each.propagation.kept):
            context.say(f"{name}: nothing to propagate, it has every log statement of {new}")
        for kept in each.propagation.kept:
            context.say(f"{name}: line {kept.old_line} stays, though {new}:{kept.new_line} logs something else there: {kept.text}")
        for refusal in each.propagation.refusals:
            refused = True
            context.say(f"{name}: not certain: {new}:{refusal.new_line}: {refusal.text}")
            context.say(f"  {refusal.reason}")
            context.say(f"  to choose the place yourself: --at {refusal.new_line}:LINE, after LINE of {name}")
    if refused:
        raise typer.Exit(1)


def _pairs(answers: list[str]) -> dict[int, int]:
    pairs = {}
    for each in answers:
        match = _ANSWER.fullmatch(each)
        if match is None:
            raise UsageError(f"{each!r} is not NEW:OLD", kind="bad-answer", hint="--at 12:34 puts line 12 of NEW after line 34 of OLD")
        pairs[int(match[1])] = int(match[2])
    return pairs


def _inside(name: str) -> str:
    """Returns a path that stays inside the folder that it is joined to."""
    return os.path.normpath("/" + name).lstrip("/")


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", kind="no-output", hint="repeat with another -o PATH") from None


def _print(context: Context, data: bytes) -> None:
    """Writes a file to stdout, its bytes as they are where the stream takes bytes."""
    raw = getattr(context.stdout, "buffer", None)
    if raw is None:
        context.stdout.write(data.decode("utf-8", "replace"))
    else:
        context.stdout.flush()
        raw.write(data)
        raw.flush()
