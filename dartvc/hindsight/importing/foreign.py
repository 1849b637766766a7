"""What the readers of other tools' files hand over: runs, their records, and the texts of those tools as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dartvc.model.records import NamedTuple

__all__ = ["ForeignRecord", "ForeignRun", "LoopStep", "RunSource", "scalar_of", "stepped"]

ITERATION_LIMIT = (1 << 32) - 1


class LoopStep(NamedTuple):
    """One iteration of one loop: its name, its number from 0 and the value of its variable."""

    loop: str
    iteration: int
    value: object


class ForeignRecord(NamedTuple):
    """One logged value, with the loops that it was logged in from the outside in, and whether a replay found it afterwards."""

    name: str
    value: object
    time_s: float
    loops: tuple[LoopStep, ...] = ()
    is_replayed: bool = False


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """One run of another tool.

    Attributes:
        tool: ``mlflow``, ``wandb`` or ``flordb``.
        origin: what the tool calls the run, unique in that tool: two imports of one run agree in it.
        name: what people call it.
        state: ``done``, ``failed`` or ``open``.
        records: in the order in which they were logged, so that a run that went on has what it had at the beginning; replayed ones last.
        arguments: its parameters.
        tags: texts that the tool keeps beside it.
        revision: the commit of the user's own git.
    """

    tool: str
    origin: str
    name: str
    started_s: float
    ended_s: float
    state: str
    records: Sequence[ForeignRecord]
    arguments: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    script: str = ""
    command: tuple[str, ...] = ()
    cwd: str = ""
    revision: str = ""


class RunSource(NamedTuple):
    """A run that was found: what people find it by, and how it is read (which may fail without harm to the others)."""

    label: str
    read: Callable[[], ForeignRun]


def scalar_of(text: str) -> object:
    """Returns the value that a tool wrote as text: an int, float, bool or None where its own text is this one, else the text.

    So ``0.1`` is a number, and ``007`` and ``1e-3`` stay what they are: nothing that was written is lost.
    """
    if text in ("True", "False"):
        return text == "True"
    if text == "None":
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text


def stepped(points: Sequence[tuple[str, object, float, int]], loop: str = "step") -> list[ForeignRecord]:
    """Returns metrics (name, value, time, step) as records of one loop, in the order of their times.

    The number of an iteration is its step, so that metrics of one run meet in one row; where steps are negative or beyond 32 bits, it is the rank
    of the step. A metric that has a single value, at step 0, was logged outside of all loops.
    """
    counts: dict[str, int] = {}
    for name, *_ in points:
        counts[name] = counts.get(name, 0) + 1
    steps = {step for *_, step in points}
    is_plain = all(0 <= step < ITERATION_LIMIT for step in steps)
    number = {step: step if is_plain else rank for rank, step in enumerate(sorted(steps))}
    return [
        ForeignRecord(name, value, time_s, () if step == 0 and counts[name] == 1 else (LoopStep(loop, number[step], step),))
        for name, value, time_s, step in sorted(points, key=lambda point: (point[2], point[3], point[0]))
    ]
