"""Making the values that a light commit does not hold, by running the cells of its plan; the way is the same when the plan is tried before.

A plan is a list of steps in the order in which the cells ran. Each step runs in a scratch namespace of its own, out of reach of files,
processes and the network, from values that the commit carries or that earlier steps made; what it made is pickled, compared with its
fingerprint, and loaded from those bytes: so it comes into the living namespace exactly as a value that had been carried.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dartvc.errors import CorruptError
from dartvc.model import Oid, Omission
from dartvc.model.records import NamedTuple
from dartvc.sessions.recompute import EffectRefused, execute, no_effects, random_streams_kept
from dartvc.state.chunking import digest_buffers, fingerprint
from dartvc.state.loading import LiveBuffers, Loading, Unloadable, load
from dartvc.state.process import apply_process
from dartvc.state.saving import Refusal, Saved, Saving, save

if TYPE_CHECKING:
    from dartvc.history import Repository

__all__ = ["Rebuilder", "Rebuilt", "Step", "explain", "fingerprint_of", "plan_of", "read_plan", "rebuild"]


class Step(NamedTuple):
    """One cell to run.

    Attributes:
        code: what ran.
        commit: what it was committed as.
        seconds: how long it took.
        carried: payloads to load first.
        made: what to take from earlier steps: (number of the step, names of the co-variable).
        streams: payloads of the random streams as they were, by name.
        outputs: the co-variables to take out, with their fingerprints; an empty one is not compared.
    """

    code: str
    commit: Oid
    seconds: float
    carried: tuple[Oid, ...]
    made: tuple[tuple[int, tuple[str, ...]], ...]
    streams: Mapping[str, Oid]
    outputs: Mapping[tuple[str, ...], str]

    def described(self) -> dict[str, object]:
        """Returns it as JSON."""
        return {
            "code": self.code,
            "commit": self.commit,
            "seconds": self.seconds,
            "carried": list(self.carried),
            "made": [[number, list(names)] for number, names in self.made],
            "streams": dict(self.streams),
            "outputs": [[list(names), expected] for names, expected in self.outputs.items()],
        }


def plan_of(recipe: Mapping[str, object]) -> Oid | None:
    """Returns the plan that makes a name of a light commit; None when its recipe is another one."""
    plan = recipe.get("plan")
    return Oid(plan) if isinstance(plan, str) else None


def read_plan(repository: Repository, plan: Oid) -> tuple[Step, ...]:
    """Returns the steps of a plan.

    Raises:
        CorruptError: it is none.
    """
    try:
        rows: Any = json.loads(repository.database.read_blob(plan))["steps"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"object {plan} is not a plan: {error}", kind="plan", hint="dvc-state fsck") from error
    return tuple(
        Step(
            str(row["code"]),
            Oid(str(row["commit"])),
            float(row["seconds"]),
            tuple(Oid(each) for each in row["carried"]),
            tuple((int(number), tuple(names)) for number, names in row["made"]),
            {str(name): Oid(each) for name, each in row["streams"].items()},
            {tuple(names): str(expected) for names, expected in row["outputs"]},
        )
        for row in rows
    )


def fingerprint_of(saved: Saved) -> str:
    """Returns a digest of all that a co-variable is stored as."""
    return fingerprint(saved.stream, (digest for digests in digest_buffers(saved.buffers) for digest in digests))


@dataclass
class Rebuilt:
    """What came of it: values by name, and what is wrong with those that are not there or not the same."""

    values: dict[str, object] = field(default_factory=dict)
    omissions: list[Omission] = field(default_factory=list)


def rebuild(repository: Repository, plan: Oid, names: Collection[str], living: dict[str, object]) -> Rebuilt:
    """Makes names of a light commit again; the caller has checked that it is trusted.

    Args:
        repository: where.
        plan: what `plan_of` says.
        names: what is wanted; whatever shares memory with it comes along.
        living: the namespace that functions and classes are taken from.
    """
    steps = read_plan(repository, plan)
    rebuilder = Rebuilder(repository, steps)
    done = Rebuilt()
    for number, step in enumerate(steps):
        for group in step.outputs:
            if not set(group) & set(names):
                continue
            try:
                saved = rebuilder.output(number, group)
                loading = Loading(living, LiveBuffers(saved.buffers))
                loaded = load(saved.stream, loading)
            except Exception as error:
                why = f"it was to be computed here, and {explain(error)}"
                done.omissions += [Omission(name, name, why, "ask for a bundle that carries it") for name in group]
                continue
            done.values.update((name, loaded[name]) for name in group)
            if step.outputs[group] and fingerprint_of(saved) != step.outputs[group]:
                why = "computed here, but it differs from what was committed"
                done.omissions += [Omission(name, name, why, "check it before you rely on it") for name in group]
    return done


def explain(error: BaseException) -> str:
    """Returns why a cell could not be run again, as the end of a sentence."""
    if isinstance(error, EffectRefused):
        return f"its cell would {error}"
    if isinstance(error, Unloadable | Refusal):
        return error.reason
    return f"its cell raises {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".rstrip(": ")


class Rebuilder:
    """Runs steps, each once and only when something of it is asked for.

    Args:
        repository: where carried values are read from.
        steps: the plan.
    """

    def __init__(self, repository: Repository, steps: Sequence[Step]) -> None:
        self._repository = repository
        self._steps = steps
        self._outputs: dict[int, dict[tuple[str, ...], Saved] | Exception] = {}

    def output(self, number: int, group: tuple[str, ...]) -> Saved:
        """Returns a co-variable that a step made.

        Raises:
            Exception: whatever the cell, or one before it, raised.
        """
        if number not in self._outputs:
            try:
                self._outputs[number] = self._run(self._steps[number])
            except Exception as error:
                self._outputs[number] = error
        found = self._outputs[number]
        if isinstance(found, Exception):
            raise found
        return found[group]

    def _run(self, step: Step) -> dict[tuple[str, ...], Saved]:
        scratch: dict[str, object] = {"__name__": "__main__", "__builtins__": __builtins__}
        earlier = [self.output(number, names) for number, names in step.made]
        for oid in step.carried:
            payload = self._repository.payload(oid)
            scratch.update(load(payload.read_stream(), Loading(scratch, payload)))
        for saved in earlier:
            scratch.update(load(saved.stream, Loading(scratch, LiveBuffers(saved.buffers))))
        with random_streams_kept(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for name, oid in step.streams.items():
                payload = self._repository.payload(oid)
                apply_process({name: load(payload.read_stream(), Loading(scratch, payload))[name]})
            with no_effects(may_read=False):
                execute(step.code, "<cell>", scratch)
        return {group: save({name: scratch[name] for name in group}, Saving(scratch, "__main__")) for group in step.outputs}
