"""The reference of the command line, written from the application itself: ``python -m dartvc.cli.reference > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dartvc.cli.app import application, label_of

__all__ = ["reference"]


def reference() -> str:
    """Returns the reference as Markdown."""
    head = "# dvc-state: the commands\n\nWritten by `python -m dartvc.cli.reference`; `dvc-state VERB --help` says the same.\n"
    return head + "\n".join(_commands(application(), "dvc-state"))


def _commands(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if not children or getattr(command, "invoke_without_command", False):
        yield from _command(command, name)
    for child, each in sorted((children or {}).items()):
        yield from _commands(each, f"{name} {child}")


def _command(command: Any, name: str) -> Iterator[str]:
    arguments = []
    options = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            label = label_of(parameter)
            arguments.append(label if parameter.required or label.startswith("[") else f"[{label}]")
            options.append((label, getattr(parameter, "help", None) or ""))
        elif parameter.name != "help":
            value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
            options.append((", ".join(parameter.opts) + value, parameter.help or ""))
    yield f"\n## {name}\n"
    yield f"`{' '.join([name, *arguments])}`\n"
    yield f"{(command.help or '').strip()}\n"
    for label, text in options:
        yield f"- `{label}` {text}".rstrip()


if __name__ == "__main__":
    print(reference(), end="\n")
