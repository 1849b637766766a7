"""The documents, held against the project: links resolve, commands exist, marked Python runs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dartvc.cli.entry import run

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
BLOCK_TIMEOUT_S = 120

FENCE = re.compile(r"^```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARKED = re.compile(r"<!-- test -->\s*\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
VERB = re.compile(r"(?:^|[\s;&(|$])(?:dvc-state|%dvc[_-]state)[ \t]+([a-z][a-z-]*)\b(?!\.)")


class Block(NamedTuple):
    """A Python block that a document promises to work."""

    document: str
    line: int
    code: str


def name_of(document: Path) -> str:
    """Returns a document's path inside the project."""
    return document.relative_to(PROJECT).as_posix()


def marked_blocks() -> Iterator[Block]:
    """Yields the Python blocks under a ``<!-- test -->`` mark."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in MARKED.finditer(text):
            yield Block(name_of(document), text[: match.start(1)].count("\n") + 1, match[1])


def slug(heading: str) -> str:
    """Returns the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def prose(text: str) -> str:
    """Returns a document without its code blocks."""
    return FENCE.sub("", text)


def verbs_in(text: str) -> set[str]:
    """Returns the verbs of ``dvc-state`` in the code blocks and code spans of a document."""
    codes = [match["text"] for match in FENCE.finditer(text) if match["language"] not in ("python", "json")]
    codes += SPAN.findall(prose(text))
    return {verb for code in codes for verb in VERB.findall(code)}


def is_verb(verb: str) -> bool:
    """Tells whether the command line has a verb."""
    return run([verb, "--help"], stdout=io.StringIO(), stderr=io.StringIO()) == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_local_links_resolve(document: Path) -> None:
    wrong = []
    for target in LINK.findall(SPAN.sub("", prose(document.read_text(encoding="utf-8")))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        destination = (document.parent / path).resolve() if path else document
        if not destination.exists():
            wrong.append(f"{target}: there is no such file")
        elif anchor and anchor not in {slug(heading) for heading in HEADING.findall(destination.read_text(encoding="utf-8"))}:
            wrong.append(f"{target}: there is no such heading")
    assert not wrong, wrong


def test_every_command_in_the_documents_is_a_command() -> None:
    places: dict[str, list[str]] = {}
    for document in DOCUMENTS:
        for verb in verbs_in(document.read_text(encoding="utf-8")):
            places.setdefault(verb, []).append(name_of(document))
    for notebook in PROJECT.glob("docs/**/*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for verb in {verb for cell in cells if cell["cell_type"] == "code" for verb in VERB.findall("".join(cell["source"]))}:
            places.setdefault(verb, []).append(name_of(notebook))
    assert "checkout" in places
    assert {verb: where for verb, where in sorted(places.items()) if not is_verb(verb)} == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert not is_verb("no-such-verb")


@pytest.mark.parametrize("block", list(marked_blocks()), ids=lambda block: f"{block.document}:{block.line}")
def test_marked_python_runs(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(block.code, encoding="utf-8")
    paths = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=BLOCK_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_documents_have_python_that_runs() -> None:
    assert len(list(marked_blocks())) >= 3


@pytest.mark.parametrize("script", sorted((PROJECT / "docs/examples").glob("*.py")), ids=name_of)
def test_example_scripts_compile(script: Path) -> None:
    compile(script.read_text(encoding="utf-8"), str(script), "exec")


@pytest.mark.parametrize("notebook", sorted((PROJECT / "docs/examples").glob("*.ipynb")), ids=name_of)
def test_example_notebooks_are_stored_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
