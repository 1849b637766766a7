"""Keys: what a call's code, arguments and surroundings come to, as one digest."""

from __future__ import annotations

import types
from typing import Any

from dartvc.lineage.codekeys import Plans, Refused, TooMany
from dartvc.lineage.contents import Contents
from dartvc.lineage.fingerprints import Fingerprint
from dartvc.lineage.ground import Ground
from dartvc.lineage.sites import Site

__all__ = ["Keys"]

_NO_CODE = (lambda: None).__code__


class Keys:
    """Makes the keys of calls.

    Args:
        plans: what functions depend on.
        contents: knows large arrays without reading them.
        ground: what every result depends on.
    """

    def __init__(self, plans: Plans, contents: Contents, ground: Ground) -> None:
        self.plans = plans
        self.contents = contents
        self.ground = ground

    def digest_alone(self, value: Any, *, is_result: bool = True) -> bytes:
        """Returns the fingerprint of one value."""
        walker = Fingerprint(self.plans, self.contents, is_result=is_result)
        walker.add(value)
        return walker.digest()

    def of_call(self, site: Site, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], idle_s: float) -> Fingerprint | None:
        """Returns the fingerprint of a call that is going to be made; None when it has none, or takes too long for what it may save.

        Args:
            idle_s: what the run can afford for a site of which nothing is known.
        """
        learned_s = self.contents.learning_s + self.plans.learning_s
        walker = Fingerprint(self.plans, self.contents)
        walker.limit = site.may_walk(idle_s)
        try:
            return self.walk(site, function, args, kwargs, site.components, walker)
        except TooMany as refusal:
            site.reason = refusal.reason
        except Refused as refusal:
            site.refuse(refusal.reason, is_final=refusal.is_final)
        except RecursionError:
            pass
        except Exception as error:  # the program may have exchanged what the engine itself is made of
            site.turn_off(f"its key could not be made ({type(error).__name__})")
        finally:
            site.passed = walker.passed
            site.learning_s += self.contents.learning_s + self.plans.learning_s - learned_s
        return None

    def walk(
        self,
        site: Site,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        components: list[tuple[str, str]] | None = None,
        walker: Fingerprint | None = None,
    ) -> Fingerprint:
        """Returns the fingerprint of a call.

        Args:
            walker: a new one, with a limit.

        Raises:
            Refused: it has none.
        """
        walker = walker or Fingerprint(self.plans, self.contents)
        report = None
        if components is not None:
            components.clear()

            def report(label: str) -> None:
                components.append((label, walker.digest()[:6].hex()))

        self.ground.add_to(walker)
        is_user = type(function) is types.FunctionType and self.plans.is_user_module(function.__module__)
        walker.note(function.__qualname__ if not site.is_part else "part")
        if is_user:
            walker.note(self.plans.plan(function).digest.hex())
        else:
            walker.add(function)
        if report is not None:
            report("code" if is_user or getattr(function, "__self__", None) is None else "the object")
        code = function.__code__ if is_user else _NO_CODE
        names = code.co_varnames
        unused = self.plans.facts(self.plans.code_of(function)).unused if is_user else frozenset()
        for position, value in enumerate(args):
            if position < code.co_argcount and names[position] in unused:
                continue
            walker.add(value)
            if report is not None:
                report(f"argument {names[position] if position < code.co_argcount else position}")
        for name, value in kwargs.items():
            if name in unused:
                continue
            walker.note(name)
            walker.add(value)
            if report is not None:
                report(f"argument {name}")
        if is_user:
            walker.plan_of(function, report)
        walker.close()
        return walker

    def of_operands(self, site: Site, label: str, operands: tuple[Any, ...]) -> bytes | None:
        """Returns the key of an operation; None when an operand cannot be compared."""
        walker = Fingerprint(self.plans, self.contents)
        try:
            self.ground.add_to(walker)
            walker.note(label)
            for operand in operands:
                walker.add(operand)
        except Refused as refusal:
            site.refuse(refusal.reason, is_final=refusal.is_final)
            return None
        return walker.digest()
