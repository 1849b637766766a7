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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_pass_and_an_identical_version_add_nothing(case: Case) -> None:
    once = propagate_source(case.old, case.new)
    again = propagate_source(once.text, case.new)
    assert again.text == once.text
    assert not again.placements
    same = propagate_source(case.new, case.new)
    assert same.text == case.new
    assert not same.placements
    assert not same.refusals


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_was_added_can_be_taken_out_again(case: Case) -> None:
    done = propagate_source(case.old, case.new)
    text = done.text
    for each in done.insertions:
        assert text.startswith(each.text, each.offset)
        text = text[: each.offset] + text[each.offset + len(each.text) :]
    assert text == case.old


def test_the_tables_hold_enough_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
