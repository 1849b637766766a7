"""How far a walk may go: counted in objects, against what a call is known to take."""

from __future__ import annotations

from typing import Any

import pytest

from dartvc.lineage.codekeys import Plans, TooMany
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.sites import OBJECTS_PER_S, Site, affordable_s

RECORDS = [{"a": number, "b": [number, [number]]} for number in range(20_000)]


def walker(limit: int) -> Fingerprint:
    """Returns a walk that passes so many objects."""
    made = Fingerprint(Plans(lambda path: False, lambda code: code))
    made.limit = limit
    return made


@pytest.mark.parametrize("value", [RECORDS, {"rows": RECORDS}, [[text] for text in map(str, range(50_000))], list(range(10**6)), tuple(map(str, range(10**6)))])
def test_a_walk_ends_where_its_limit_is(value: Any) -> None:
    walk = walker(5000)
    with pytest.raises(TooMany):
        walk.add(value)
    assert len(walk.identities) <= 5001


def test_a_walk_counts_what_it_passes() -> None:
    walk = walker(10**6)
    walk.add(RECORDS)
    assert 3 * len(RECORDS) <= walk.passed <= 8 * len(RECORDS)


def test_a_limit_is_no_part_of_the_digest() -> None:
    narrow, wide = walker(10**6), walker(10**7)
    narrow.add(RECORDS)
    wide.add(RECORDS)
    assert narrow.digest() == wide.digest()


def test_what_a_call_takes_allows_a_share_of_it_and_hits_allow_more() -> None:
    site = Site("f")
    assert site.may_walk(0.02) == int(0.02 * OBJECTS_PER_S)
    site.note_run(1.0, 1.0)
    without = site.may_walk(0.0)
    assert without < OBJECTS_PER_S / 5
    site.reused += 1
    assert without < site.may_walk(0.0) < OBJECTS_PER_S


def test_a_site_is_left_alone_after_one_call_whose_key_takes_longer_than_it_may() -> None:
    short, long = Site("short"), Site("long")
    for site, took_s in ((short, 0.003), (long, 3.0)):
        site.passed = 20_000
        site.note_run(took_s, took_s)
        site.judge(0.5)
    assert (short.is_resting, short.executions) == (True, 1)
    assert not long.is_off


def test_one_hit_does_not_save_a_site_that_costs_more_than_it_saves() -> None:
    site = Site("f")
    site.note_run(0.04, 0.04)
    site.calls, site.reused, site.saved_s, site.overhead_s = 2, 1, 0.04, 0.6
    site.judge(1.0)
    assert site.is_resting


def test_what_is_lost_to_watching_is_not_spent_again() -> None:
    assert affordable_s(1.0, 0.0) > affordable_s(1.0, 0.01) > 0 > affordable_s(1.0, 0.1)
