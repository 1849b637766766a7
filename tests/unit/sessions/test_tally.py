"""What the commits of a run have cost so far, as a commit of the run records it."""

from __future__ import annotations

from dartvc.sessions.tally import Tally, describe_tally


def test_a_commit_counts_itself_as_it_is_counted_afterwards() -> None:
    tally = Tally()
    for obstacle in ("", "p: it cannot be pickled", "", None):
        recorded = tally.described(obstacle=obstacle)
        tally.add(0.1, 1000, obstacle=obstacle)
        after = tally.described()
        assert (recorded["commits"], recorded["refused"]) == (after["commits"], after["refused"])
    assert tally.commits == 2 and tally.refusal == ""


def test_what_cannot_be_stored_is_told_whatever_place_was_refused_afterwards() -> None:
    tally = Tally()
    tally.add(0.1, 1000, obstacle="p: it cannot be pickled")
    tally.refused = "an expression is half evaluated"
    assert tally.why_not == tally.described()["refused"] == "p: it cannot be pickled"
    tally.add(0.1, 1000, obstacle="")
    assert tally.why_not == ""
    tally.refused = "a generator is running"
    assert tally.why_not == "a generator is running"


def test_nothing_is_at_risk_any_more_when_a_run_is_over() -> None:
    tally = Tally()
    assert describe_tally(tally.described(obstacle="no")) == "no commit that can be resumed from: no"
    assert describe_tally(tally.described(obstacle="")).startswith("1 commit to resume from, 0.0 MB")
    assert "at risk" in describe_tally(tally.described(obstacle=""))
    assert "at risk" not in describe_tally(tally.described(obstacle=""), is_over=True)


def test_what_a_commit_lacked_is_told_and_not_the_places_that_were_passed_since() -> None:
    tally = Tally()
    tally.refused = "an expression is half evaluated"
    assert tally.refused == "an expression is half evaluated"
    tally.add(0.1, 1000, obstacle="f: it cannot be stored")
    tally.refused = "an expression is half evaluated"
    assert tally.why_not == "f: it cannot be stored"
    tally.add(0.1, 1000, obstacle="")
    tally.refused = "an expression is half evaluated"
    assert tally.why_not == "an expression is half evaluated"
