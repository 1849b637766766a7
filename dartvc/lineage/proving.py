"""What a call of code that may change things did: looked at before and after, kept, and done again at a hit."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

from dartvc.lineage.bindings import Bindings
from dartvc.lineage.changes import Change
from dartvc.lineage.codekeys import Effects, Plans, Refused
from dartvc.lineage.contents import Contents
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.sites import Site
from dartvc.model.records import NamedTuple

__all__ = ["Call", "Prover"]


class Call(NamedTuple):
    """One call: its walk before it ran, its key, and what it may change and bind, where that is known."""

    site: Site
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: Fingerprint
    key: bytes
    change: Change | None
    bindings: Bindings | None = None
    is_wide: bool = False
    """Globals are among what `change` looks at."""


class Prover:
    """Proves what a call did, and did not do.

    Args:
        plans: what functions depend on.
        contents: knows large arrays without reading them.
        walk: returns the fingerprint of a call.
        digest_alone: returns the fingerprint of one value.
        has_other_threads: whether other threads of the program run.
        namespace: the program's globals.
    """

    def __init__(
        self, plans: Plans, contents: Contents, walk: Callable[..., Fingerprint], digest_alone: Callable[..., bytes],
        has_other_threads: Callable[[], bool], namespace: dict[str, Any],
    ) -> None:  # fmt: skip
        self.plans = plans
        self.contents = contents
        self._walk = walk
        self._digest_alone = digest_alone
        self._has_other_threads = has_other_threads
        self._namespace = namespace
        self._quiet: set[tuple[object, ...]] = set()

    def look_before(self, call: Call) -> tuple[Call, bytes]:
        """Looks at what a call may change and bind; returns it with that, and the digest of the code and globals behind it where it is known to change something."""
        site, bindings = call.site, Bindings(self.plans, call.before.definitions)
        if bindings.may_set:
            call = call._replace(bindings=bindings)
            bindings.look()
            site.binds = site.binds or (bindings.stores_globals and not site.is_part)
        if call.change is None and ((not site.changes and not site.binds) or self._has_other_threads()):
            return call, b""
        try:
            is_wide = site.binds and call.change is None
            change = self._change_of(call, bindings if is_wide else None)
            change.look()
            return call._replace(change=change, is_wide=is_wide), self._digest_of_closures(call.before, with_data=not is_wide)
        except Refused:
            return call, b""  # that it changes nothing is seen without

    def proven(self, call: Call, closures: bytes, result: Any) -> Any:
        """Returns what is to be kept of a call: its result, with what it did to its arguments.

        Raises:
            Refused: it changed something else.
        """
        before, site = call.before, call.site
        bound = call.bindings.changed() if call.bindings is not None else {}
        may_learn = type(call.function) is types.FunctionType and not site.is_part
        if call.change is not None:
            if self._digest_of_closures(before, with_data=not call.is_wide) != closures or (bound and not call.is_wide):
                site.binds = may_learn
                raise Refused("it changes globals")
            kept = call.change.describe(result, before, bound=bound if call.is_wide else None)
            if type(kept) is Effects and (bound or site.changes or site.binds) and self._has_other_threads():
                raise Refused("it changes what other threads may reach")
            return kept
        form = _form_of(call) if not before.has_user_code and not before.has_stream else None
        if bound:
            site.binds = may_learn
            raise Refused("it changes globals")
        if form is not None and form in self._quiet:
            return result
        if self._walk(site, call.function, call.args, call.kwargs).digest() != call.key:
            site.changes = may_learn
            raise Refused("it changes its arguments or globals")
        if form is not None:
            self._quiet.add(form)
        return result

    def do_again(self, call: Call, effects: Effects) -> Any:
        """Does what a call like this one did; returns its result.

        Raises:
            Refused: it cannot be done here.
        """
        if call.change is None and self._has_other_threads():
            raise Refused("it changes what other threads may reach")
        bindings = Bindings(self.plans, call.before.definitions) if effects.binds else None
        result, bound = self._change_of(call, bindings).apply(effects)
        if bindings is not None:
            bindings.bind(bound)
        return result

    def _change_of(self, call: Call, bindings: Bindings | None) -> Change:
        data = bindings.data if bindings is not None else ()
        return call.change or self.change_among((*call.args, *call.kwargs.values(), *data), ())

    def change_among(self, subjects: tuple[Any, ...], bystanders: tuple[Any, ...]) -> Change:
        """Returns what a call may change that is given these.

        Raises:
            Refused: too much hangs on them.
        """
        return Change(subjects, bystanders, self.plans.is_user_module, partial(self._digest_alone, is_result=False), self._namespace)

    def _digest_of_closures(self, before: Fingerprint, *, with_data: bool) -> bytes:
        """Returns the digest of the program's code that a call may run, with what this reads or without."""
        walker = Fingerprint(self.plans, self.contents)
        for definition in before.definitions:
            if with_data:
                walker.plan_of(definition)
            else:
                walker.note(self.plans.plan(definition).digest.hex())
        return walker.digest()


def _form_of(call: Call) -> tuple[object, ...]:
    """Returns what decides whether a library's function changes what it is given: which one it is, the types of its arguments, and what it is told to do."""
    function = call.function
    named = tuple((name, value if type(value) in (bool, str) else type(value)) for name, value in call.kwargs.items())
    given = tuple(value if type(value) is bool else type(value) for value in call.args)
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", ""), type(getattr(function, "__self__", None)), given, named
