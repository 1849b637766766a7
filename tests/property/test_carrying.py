"""The plan of what to carry and what to make again, held against trying everything."""

from __future__ import annotations

from itertools import chain, combinations

from hypothesis import given
from hypothesis import strategies as st

from dartvc.lineage.carrying import Maker, Value, all_carried, all_remade, cheapest, cost_of


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Value], list[Maker]]:
    """Draws a history of cells: each starts from values that stand before it and makes some new ones."""
    values: list[Value] = [Value(draw(st.integers(0, 30)), None, draw(st.booleans())) for _ in range(draw(st.integers(0, 3)))]
    makers: list[Maker] = []
    for number in range(draw(st.integers(0, 6))):
        inputs = draw(st.lists(st.integers(0, len(values) - 1), max_size=4)) if values else []
        makers.append(Maker(draw(st.integers(0, 40)), tuple(inputs)))
        for _ in range(draw(st.integers(0, 3))):
            is_stored = draw(st.integers(0, 9)) > 0
            values.append(Value(draw(st.integers(0, 30)) if is_stored else None, number, draw(st.booleans())))
    return values, makers


def best_of_all(values: list[Value], makers: list[Maker]) -> int:
    numbers = range(len(makers))
    sets = chain.from_iterable(combinations(numbers, size) for size in range(len(makers) + 1))
    costs = [cost for each in sets if (cost := cost_of(values, makers, frozenset(each))) is not None]
    return min(costs)


@given(problems())
def test_the_plan_costs_what_the_best_of_all_choices_costs(problem: tuple[list[Value], list[Maker]]) -> None:
    assert cheapest(*problem).cost_ns == best_of_all(*problem)


@given(problems())
def test_the_plan_costs_no_more_than_carrying_all_or_remaking_all(problem: tuple[list[Value], list[Maker]]) -> None:
    plan = cheapest(*problem)
    assert plan.cost_ns <= all_carried(*problem).cost_ns
    assert plan.cost_ns <= all_remade(*problem).cost_ns


@given(problems())
def test_whatever_a_plan_runs_has_what_it_starts_from(problem: tuple[list[Value], list[Maker]]) -> None:
    values, makers = problem
    plan = cheapest(values, makers)
    for number in plan.run:
        assert all(each in plan.carried or values[each].maker in plan.run or values[each].is_wanted for each in makers[number].inputs)
    assert all(number in plan.carried or value.maker in plan.run for number, value in enumerate(values) if value.is_wanted)
