"""What a call binds beside its locals: globals, attributes of classes, modules and functions, variables of functions around it.

Looked at before and after a call of code that may do so; what was bound anew is kept with the call's other effects and bound again at a hit.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Any

from dartvc.lineage.codekeys import Plans, Refused
from dartvc.program.watched import BLOCK, LOOP

__all__ = ["Bindings", "Bound"]

Bound = Mapping[str, Mapping[str, Any]]
"""By the label of an owner (see `dartvc.lineage.codekeys.Plan`), names and what they were bound to."""
_GONE = "\0gone"
_CONTENT = "content"
_FURNITURE = frozenset({"__builtins__", "__warningregistry__", "__annotations__", BLOCK, LOOP})


class Bindings:
    """What the code behind a call may bind.

    Args:
        plans: know the code.
        definitions: the program's functions and classes behind the call.
    """

    def __init__(self, plans: Plans, definitions: Iterable[Any]) -> None:
        self._owners: dict[str, Any] = {}
        self.may_set = False
        self.stores_globals = False
        self._plans = [plans.plan(each) for each in definitions]
        for plan in self._plans:
            self.may_set = self.may_set or plan.may_set
            self.stores_globals = self.stores_globals or bool(plan.stored)
            self._owners.update(plan.owners)

    @property
    def data(self) -> list[Any]:
        """The objects that the code reads from globals and from the functions around it."""
        found: list[Any] = []
        for plan in self._plans:
            found += [namespace.get(name) for _, namespace, name in plan.data]
            found += [_content(cell) for _, cell in plan.cells]
        return found

    def look(self) -> None:
        """Notes what is bound, before the call."""
        self._before = {label: _names_of(owner) for label, owner in self._owners.items()}

    def changed(self) -> Bound:
        """Returns what was bound since `look`.

        Raises:
            Refused: it is a definition, or belongs to a library.
        """
        found: dict[str, dict[str, Any]] = {}
        for label, owner in self._owners.items():
            before, now = self._before[label], _names_of(owner)
            new = {name: value for name, value in now.items() if before.get(name, _GONE) is not value and name not in _FURNITURE}
            new.update(dict.fromkeys(before.keys() - now.keys() - _FURNITURE, _GONE))
            if new and label.startswith("library "):
                raise Refused("it changes a library", is_final=True)
            if any(isinstance(value, types.FunctionType | type | types.ModuleType) for value in new.values()):
                raise Refused("it binds functions, classes or modules")
            if new:
                found[label] = new
        return found

    def bind(self, bound: Bound) -> None:
        """Binds again what a call like this one bound."""
        for label, names in bound.items():
            owner = self._owners[label]
            for name, value in names.items():
                _set(owner, name, value)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _GONE


def _names_of(owner: Any) -> dict[str, Any]:
    if type(owner) is dict:
        return dict(owner)
    return {_CONTENT: _content(owner)} if isinstance(owner, types.CellType) else dict(vars(owner))


def _set(owner: Any, name: str, value: Any) -> None:
    is_gone = type(value) is str and value == _GONE
    if isinstance(owner, types.CellType):
        if is_gone:
            del owner.cell_contents
        else:
            owner.cell_contents = value
    elif type(owner) is dict:
        if is_gone:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif is_gone:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
