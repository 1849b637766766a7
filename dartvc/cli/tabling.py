"""The table of the command line that completion reads, written from the application: ``python -m dartvc.cli.tabling > dartvc/cli/completion_table.py``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from dartvc.cli.app import application

__all__ = ["table"]

_HEAD = '''"""The verbs, their options and what stands behind each; written by ``python -m dartvc.cli.tabling``."""

from __future__ import annotations

from typing import Literal

__all__ = ["COMMON", "VERBS", "Kind"]

Kind = Literal["branch", "file", "name", "other", "remote", "revision", "run", "setting", "tag", "target"]

'''
_KINDS = {
    "revision": "revision", "revisions": "revision", "before": "revision", "after": "revision", "source": "revision", "target": "target",
    "names": "name", "name": "name", "run": "run", "key": "setting", "remote": "remote", "branches": "branch", "refs": "branch",
    "branch": "branch", "directory": "file", "script": "file", "output": "file", "old": "file", "new": "file", "file": "file", "arguments": "file",
}  # fmt: skip
_KINDS_OF_VERB = {
    ("branch", "name"): "branch", ("switch", "name"): "branch", ("tag", "name"): "tag", ("remote remove", "name"): "remote",
    ("remote set-url", "name"): "remote", ("remote get-url", "name"): "remote", ("remote rename", "old"): "remote",
    ("remote add", "name"): "other", ("remote rename", "new"): "other", ("clone", "branch"): "other", ("pull", "branch"): "branch",
}  # fmt: skip


def table() -> str:
    """Returns the module's text."""
    command = application()
    common = {option: _kind("", each) for each in command.params if each.name != "help" for option in each.opts}
    rows = ["COMMON: dict[str, Kind | None] = {", *(f"    {_row(option, kind)}" for option, kind in sorted(common.items())), "}"]
    rows += ["VERBS: dict[str, tuple[dict[str, Kind | None], tuple[Kind, ...]]] = {", *_verbs(command, ""), "}"]
    rows[rows.index("}") + 1] += "  # its options, with what each takes; what its arguments are"
    return _HEAD + "\n".join(rows) + "\n"


def _verbs(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if name and (not children or getattr(command, "invoke_without_command", False)):
        options = {option: _kind(name, each) for each in command.params for option in each.opts if each.param_type_name == "option"}
        kinds = [_kind(name, each) for each in command.params if each.param_type_name == "argument"]
        yield f'    "{name}": ('
        text = "{" + ", ".join(_row(option, kind).rstrip(",") for option, kind in sorted(options.items())) + "},"
        yield from textwrap.wrap(text, 120, initial_indent=" " * 8, subsequent_indent=" " * 9, break_on_hyphens=False, break_long_words=False)
        yield f"        {tuple(kinds)!r},".replace("'", '"')
        yield "    ),"
    for child, each in sorted((children or {}).items()):
        yield from _verbs(each, f"{name} {child}".strip())


def _row(option: str, kind: str | None) -> str:
    return f'"{option}": "{kind}",' if kind is not None else f'"{option}": None,'


def _kind(verb: str, parameter: Any) -> str | None:
    """Returns what a parameter takes; None for a flag."""
    if parameter.param_type_name == "option" and parameter.is_flag:
        return None
    return _KINDS_OF_VERB.get((verb, parameter.name)) or _KINDS.get(parameter.name, "other")


if __name__ == "__main__":
    print(table(), end="")
