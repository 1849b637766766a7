"""Propagation, case by case: tables of small programs, each with where its log statements belong in an older version.

A case is ``=== NAME``, the new version, ``--- old`` and the old version; lines that start with ``+|`` are what propagation adds. Where it changes
inside of lines, ``--- expected`` says the whole result. ``--- refused REASON`` says that there is no certain place, and a part of the reason.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from dartvc.porcelain.propagating import propagate_source

TABLES = sorted((Path(__file__).parent / "propagation").glob("*.txt"))


class Case(NamedTuple):
    """One case of a table."""

    name: str
    new: str
    old: str
    expected: str
    refused: str | None


def read_table(path: Path) -> list[Case]:
    """Reads the cases of a table."""
    cases = []
    for part in re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        new, *sections = re.split(r"^--- ", body, flags=re.MULTILINE)
        named = {title: text for title, _, text in (section.partition("\n") for section in sections)}
        lines = named["old"].splitlines(keepends=True)
        old = "".join(line for line in lines if not line.startswith("+|"))
        expected = named.get("expected", "".join(line.removeprefix("+|") for line in lines))
        refused = next((title.removeprefix("refused").strip() for title in named if title.startswith("refused")), None)
        cases.append(Case(f"{path.stem}: {name}", new, old, expected, refused))
    return cases


CASES = [case for table in TABLES for case in read_table(table)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_goes_where_it_belongs_or_is_refused(case: Case) -> None:
    done = propagate_source(case.old, case.new)
    reasons = [each.reason for each in done.refusals]
    if case.refused is None:
        assert not reasons
    else:
        assert any(case.refused in reason for reason in reasons), reasons
    assert done.text == case.expected


def test_the_tables_hold_enough_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
