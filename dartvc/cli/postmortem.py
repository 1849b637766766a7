"""Looking into the moment of a commit: what `show` says of its traceback, frames and acts, and `shell`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from dartvc.cli.context import Context, current
from dartvc.cli.render import printable, render_headline
from dartvc.cli.running import check_device
from dartvc.errors import NotFoundError
from dartvc.model import short
from dartvc.porcelain.postmortem import Examination, load_state
from dartvc.program.acts import describe_acts

__all__ = ["examination_item", "register", "render_examination"]

MapDevice = Annotated[str, typer.Option("--map-device", metavar="DEVICE", help="where tensors of a graphics processor go: cpu, cuda:1, mps")]
_NAMES_SHOWN = 30


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("shell")(shell)


def shell(
    revision: Annotated[str, typer.Argument(metavar="REV", help="of which commit")] = "HEAD",
    number: Annotated[int | None, typer.Option("--frame", metavar="N", help="which frame, as show numbers them; none: the innermost")] = None,
    text: Annotated[str | None, typer.Option("-c", metavar="CODE", help="run it there instead of asking")] = None,
    is_trusting: Annotated[bool, typer.Option("--trust", help="a commit that was made on another machine")] = False,
    map_device: MapDevice = "",
) -> None:
    """Opens IPython (or Python's own prompt) in the state of a commit: its names, and the variables of its frames; the repository stays as it is."""
    from dartvc.shims.shell import interact, run_code

    context = current()
    oid = context.repository.resolve(revision, head=context.workspace.head)
    state = load_state(context.repository, oid, trust=is_trusting, map_device=check_device(map_device))
    if number is not None and not 0 <= number < len(state.frames):
        raise NotFoundError(
            f"there is no frame {number} in {short(oid)}, which has {len(state.frames)}", kind="unknown-frame", hint=f"dvc-state show {short(oid)}"
        )
    if text is None:
        interact(state, number)
    else:
        raise typer.Exit(run_code(state, number, text))


def examination_item(found: Examination) -> dict[str, Any]:
    """Returns what `show --json` says of a commit's moment."""
    frames = [
        {
            "index": frame.index,
            "file": frame.file,
            "line": frame.line,
            "function": frame.function,
            "source": frame.source,
            "error": frame.error,
            "locals": dict(summaries),
        }
        for frame, summaries in found.frames
    ]
    return {"traceback": found.traceback or None, "frames": frames, "effects": found.acts}


def render_examination(context: Context, found: Examination) -> Iterator[str]:
    """Yields the lines that `show` prints of a commit's moment; nothing for a commit that tells nothing of it."""
    if found.acts:
        yield f"    the program has {printable(describe_acts(found.acts))}: that cannot be undone"
        yield ""
    if found.traceback:
        yield from (context.paint(printable(line), "31") for line in found.traceback.splitlines())
        yield ""
    error = ""
    for frame, summaries in found.frames:
        if frame.error != error:
            error = frame.error
            yield f"raised before it: {printable(error)}"
        yield context.paint(printable(str(frame)), "1")
        shown = list(summaries.items())[:_NAMES_SHOWN]
        yield from (f"    {render_headline(name, summary, color=context.color, width=120)}" for name, summary in shown)
        if len(summaries) > _NAMES_SHOWN:
            yield f"    and {len(summaries) - _NAMES_SHOWN} more"
    if found.left_out:
        yield f"{found.left_out} frames between them were not kept"
    if found.frames:
        yield ""
