"""When a run commits: arithmetic over a budget, without a clock."""

from __future__ import annotations

from dartvc.sessions.pacing import Pace


def test_a_commit_at_the_head_of_a_loop_may_be_one_ahead_of_the_budget_and_no_more() -> None:
    pace = Pace(max_overhead=0.01)
    assert pace.is_due_at_head(elapsed_s=2.0, since_last_s=2.0, interval_s=1.0)
    pace.take(0.5, 0)
    assert not pace.is_due_at_head(elapsed_s=49.0, since_last_s=1.0, interval_s=1.0)
    assert pace.is_due_at_head(elapsed_s=51.0, since_last_s=1.0, interval_s=1.0)


def test_a_spacing_that_was_asked_for_is_kept_to_the_nearest_head() -> None:
    pace = Pace(every_s=10.0)
    assert not pace.is_due_at_head(elapsed_s=100.0, since_last_s=7.0, interval_s=4.0)
    assert pace.is_due_at_head(elapsed_s=100.0, since_last_s=8.0, interval_s=4.0)


def test_commits_wait_for_a_head_that_comes_round_and_not_for_one_that_does_not() -> None:
    pace = Pace()
    assert pace.held_s(since_last_s=1.0, since_head_s=1.0, interval_s=2.0) == 2.0
    assert pace.held_s(since_last_s=1.0, since_head_s=9.0, interval_s=2.0) < 0
    assert pace.held_s(since_last_s=8.5, since_head_s=1.0, interval_s=100.0) < 0
    assert pace.held_s(since_last_s=0.0, since_head_s=0.0, interval_s=0.0) == 0


def test_a_spacing_that_was_asked_for_waits_for_a_head_at_most_as_long_again() -> None:
    pace = Pace(every_s=1.0)
    assert pace.held_s(since_last_s=0.5, since_head_s=0.0, interval_s=50.0) == 1.5
