"""When the next commit of a run is due."""

from __future__ import annotations

import pytest

from dartvc.sessions.pacing import Pace, Pacer


def test_commits_that_cost_nothing_come_every_second() -> None:
    pace = Pace()
    pace.take(0.001, 0)
    assert pace.next_due_s(elapsed_s=100.0, since_last_s=0.0) == pytest.approx(1.0)


def test_the_budget_spaces_commits() -> None:
    pace = Pace(max_overhead=0.01)
    pace.take(0.5, 0)
    assert pace.next_due_s(elapsed_s=1.0, since_last_s=0.0) == pytest.approx(0.5 / 0.01 + 0.5 / 0.01 - 1.0)


@pytest.mark.parametrize(("stall_s", "elapsed_s", "due_s"), [(0.045, 0.0, 3.0), (0.05, 20.0, 4.0), (0.2, 20.0, 8.0), (0.04, 1000.0, 4.0)])
def test_work_at_risk_is_bounded_where_a_commit_is_cheap(stall_s: float, elapsed_s: float, due_s: float) -> None:
    pace = Pace(max_overhead=0.01, spent_s=10.0 if elapsed_s < 1000 else 9.96)
    pace.take(stall_s, 0)
    assert pace.next_due_s(elapsed_s, since_last_s=0.0) == pytest.approx(due_s, abs=0.01)


def test_writing_costs_what_the_program_needs_of_the_other_cores() -> None:
    idle, busy = Pace(), Pace()
    idle.take(0.01, 400_000_000, busy=0.0)
    busy.take(0.01, 400_000_000, busy=1.0)
    assert idle.spent_s == pytest.approx(0.02)  # with the few milliseconds that no idle core spares
    assert busy.spent_s == pytest.approx(1.02)


def test_a_spacing_that_was_asked_for_is_kept_whatever_it_costs() -> None:
    pace = Pace(every_s=5.0)
    pace.take(100.0, 0)
    assert pace.next_due_s(elapsed_s=10.0, since_last_s=2.0) == 3.0


def test_a_commit_at_the_head_of_a_loop_is_made_when_the_budget_has_room_or_the_next_head_comes_too_late() -> None:
    pace = Pace(max_overhead=0.01)
    pace.take(0.5, 0)
    assert not pace.is_due_at_head(elapsed_s=90.0, since_last_s=1.0, interval_s=1.0)
    assert pace.is_due_at_head(elapsed_s=90.0, since_last_s=1.0, interval_s=30.0)
    assert pace.is_due_at_head(elapsed_s=101.0, since_last_s=1.0, interval_s=1.0)
    assert not pace.is_due_at_head(elapsed_s=1000.0, since_last_s=0.05, interval_s=0.05)


def test_each_head_is_committed_ahead_of_the_budget_where_its_iteration_pays_for_it() -> None:
    pace = Pace(max_overhead=0.01)
    pace.spent_s, pace.expected_s = 0.045, 0.012
    assert pace.is_due_at_head(elapsed_s=3.5, since_last_s=0.5, interval_s=1.2)
    assert not pace.is_due_at_head(elapsed_s=3.5, since_last_s=0.5, interval_s=0.6)
    assert not pace.is_due_at_head(elapsed_s=2.5, since_last_s=0.5, interval_s=1.2)


def test_an_iteration_that_was_a_little_shorter_is_not_taken_for_one_of_an_inner_loop() -> None:
    pacer = Pacer(Pace(every_s=0.000001), lambda: None)
    assert pacer.at_head(2.0, loop=1)
    pacer.committed(0.0, 0)
    assert pacer.at_head(1.9, loop=1)
    assert not pacer.at_head(1.8, loop=2)


def test_a_spacing_that_was_asked_for_is_kept_to_the_nearest_head() -> None:
    pace = Pace(every_s=10.0)
    assert not pace.is_due_at_head(elapsed_s=100.0, since_last_s=7.0, interval_s=4.0)
    assert pace.is_due_at_head(elapsed_s=100.0, since_last_s=8.0, interval_s=4.0)


def test_commits_wait_for_a_head_that_comes_round_and_not_for_one_that_does_not() -> None:
    pace = Pace()
    assert pace.held_s(elapsed_s=100.0, since_last_s=1.0, since_head_s=1.0, interval_s=2.0) == 2.0
    assert pace.held_s(elapsed_s=100.0, since_last_s=1.0, since_head_s=9.0, interval_s=2.0) < 0
    assert pace.held_s(elapsed_s=100.0, since_last_s=8.5, since_head_s=1.0, interval_s=100.0) < 0
    assert pace.held_s(elapsed_s=100.0, since_last_s=0.0, since_head_s=0.0, interval_s=0.0) == 0


def test_a_spacing_that_was_asked_for_waits_for_a_head_at_most_as_long_again() -> None:
    pace = Pace(every_s=1.0)
    assert pace.held_s(elapsed_s=100.0, since_last_s=0.5, since_head_s=0.0, interval_s=50.0) == 1.5


def test_waiting_for_a_head_does_not_put_more_work_at_risk() -> None:
    pace = Pace()
    pace.take(0.01, 0)
    assert pace.held_s(elapsed_s=20.0, since_last_s=1.0, since_head_s=0.0, interval_s=50.0) == 3.0


def test_memory_that_was_never_stored_waits_until_the_run_is_long_enough_for_it() -> None:
    pace = Pace()
    assert pace.wait_for_s(0, 0, busy=1.0, elapsed_s=0.0) == 0
    assert pace.wait_for_s(300_000_000, 0, busy=0.0, elapsed_s=2.0) == pytest.approx(8.0)
    assert pace.wait_for_s(300_000_000, 0, busy=1.0, elapsed_s=2.0) == pytest.approx(33.0)
    assert pace.wait_for_s(300_000_000, 0, busy=1.0, elapsed_s=60.0) < 0
    assert pace.wait_for_s(0, 450_000, busy=0.0, elapsed_s=2.0) == pytest.approx(8.0)
    assert Pace(every_s=5.0).wait_for_s(10**12, 10**9, busy=1.0, elapsed_s=0.0) == 0


def test_the_commit_behind_one_of_new_memory_tells_soon_what_the_next_ones_cost() -> None:
    pace = Pace()
    pace.take(0.3, 0, is_new=True)
    assert pace.next_due_s(elapsed_s=11.0, since_last_s=0.0) == pytest.approx(9.0)
    pace.take(0.3, 0)
    assert pace.next_due_s(elapsed_s=20.0, since_last_s=0.0) == pytest.approx(70.0)
