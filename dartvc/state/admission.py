"""Whether loading a stream calls nothing that no stored value may call: such functions may be values in it, and no more than that.

A script that ends in ``sys.exit(main())`` holds `sys.exit` while ``main`` runs, a table of commands holds `os.remove`. That is state like any
other. `admit` reads a stream that names such a function before it is loaded, and before it is stored, as a graph (`dartvc.state.pickled`):
the function, and what was made of it (a ``partial``, a ``map``), may lie in containers, attributes and closures, and be given to what
is known to keep it. It may not be called, nor given to a library's function of which that is not known. What the program itself defines is
free to have it: its code is looked at by nobody, and is a matter of trust.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any

from dartvc.host.places import is_library_file
from dartvc.state.forbidden import is_forbidden
from dartvc.state.pickled import Node, Reader, Unreadable

__all__ = ["Inadmissible", "admit"]

_DOORS = "dartvc.state.rebuild."
_DEFINITIONS = frozenset(_DOORS + name for name in ("class_", "enum", "function"))
"""What the program defined: calling it runs the program's code, whatever that holds."""
_KEEPING_DOORS = frozenset(
    _DOORS + name
    for name in (
        *("weakref", "weakref_calling", "weakref_proxy", "weakref_proxy_calling", "finalizer", "lru_cache", "function", "generator_expression"),
        *("mappingproxy", "csv_reader", "csv_writer", "task_step", "task_wakeup"),
    )
)
_KEEPING = frozenset(
    [f"builtins.{name}" for name in ("classmethod", "enumerate", "filter", "getattr", "iter", "map", "property", "reversed", "staticmethod", "zip")]
    + [f"functools.{name}" for name in ("cached_property", "partial", "partialmethod")]
    + [f"operator.{name}" for name in ("attrgetter", "itemgetter", "methodcaller")]
    + [f"_operator.{name}" for name in ("attrgetter", "itemgetter", "methodcaller")]
    + ["types.MethodType", "types.MappingProxyType", "collections.ChainMap"]
)
"""What keeps its arguments as they are, and calls them when it is called or iterated itself."""
_FILLED = frozenset(
    [f"builtins.{name}" for name in ("dict", "frozenset", "list", "set", "tuple")]
    + [f"collections.{name}" for name in ("Counter", "OrderedDict", "UserDict", "UserList", "defaultdict", "deque")]
    + ["copyreg._reconstructor", "copyreg.__newobj__"]
)
"""What goes through its arguments: they must be there, and not be made on the way."""
_MAKES_NOTHING = (object.__new__, list.__new__, dict.__new__, set.__new__, BaseException.__new__)
_REACHING_OUT = frozenset({"builtins.getattr", _DOORS + "imported", _DOORS + "module", _DOORS + "main_module"})
"""What leads to an object that was there before."""


class Inadmissible(Exception):
    """Loading a stream would call, or might call, what no stored value may call; the text says what."""


def admit(stream: bytes) -> None:
    """Looks a stream through.

    Raises:
        Inadmissible: loading it might call a forbidden function, or it cannot be read.
    """
    try:
        _Examiner(stream).read()
    except (Unreadable, IndexError, KeyError, ValueError, AttributeError, TypeError, ImportError) as error:
        raise Inadmissible(f"it names a function that no stored value may call, and cannot be read: {error}") from error


class _Examiner(Reader):
    """Reads a stream as the unpickler will, and looks at each call before it is made."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.has_met = False
        self.given: dict[int, Node] = {}
        """Objects whose attributes lead to a forbidden function, by identity: their methods may have become that function."""

    def act(self, code: int) -> None:
        stack = self.stack
        if code == 0x93:  # STACK_GLOBAL
            self.has_met = self.has_met or is_forbidden(*_named(stack[-2:]))
        elif self.has_met and code in (0x52, 0x81):  # REDUCE, NEWOBJ
            self._look_at_call(stack[-2], _items(stack[-1]), is_made=code == 0x81)
        elif self.has_met and code == 0x92:  # NEWOBJ_EX
            self._look_at_call(stack[-3], [*_items(stack[-2]), *_items(stack[-1])], is_made=True)
        elif self.has_met and code == 0x62:  # BUILD
            self._look_at_state(stack[-2], stack[-1])
        elif self.has_met and code in (0x65, 0x61, 0x90):  # APPENDS, APPEND, ADDITEMS
            self._look_at_items(code)
        super().act(code)

    def _look_at_call(self, head: Any, arguments: list[Any], *, is_made: bool) -> None:
        if _is_forbidden_global(head):
            raise Inadmissible(f"loading it would call {_dotted(head)}")
        if not isinstance(head, Node) or (head.kind == "call" and head.calls() in _DEFINITIONS):
            return
        if head.kind != "global":
            if culprit := _first_reached((head, *arguments)):
                raise Inadmissible(f"loading it would call what has to do with {culprit}")
            return
        name = _dotted(head)
        if name.startswith(_DOORS):
            self._look_at_door(name, arguments)
            return
        culprit = _first_reached(arguments)
        if culprit and not _keeps(head, arguments, is_made=is_made):
            raise Inadmissible(f"loading it would give {culprit} to {name}, which may call it")

    def _look_at_door(self, name: str, arguments: list[Any]) -> None:
        """Looks at what one of our builders is given: it does not call what lies in containers."""
        if name.endswith(("_state", ".state_of_names")):
            if len(arguments) == 2:
                self._look_at_state(*arguments)
            return
        if name in _KEEPING_DOORS:
            return
        for each in arguments:
            culprit = _reached(each) if isinstance(each, Node) and each.kind in ("call", "global") else ""
            if culprit:
                raise Inadmissible(f"loading it would give {culprit} to the builder {name.removeprefix(_DOORS)}")

    def _look_at_state(self, target: Any, state: Any) -> None:
        """Looks at the state that an object is given: that of a function or module that was there before has to stay as it is."""
        if id(target) in self.given:
            raise Inadmissible(f"loading it would call what is an attribute of an object, {_reached(target)}")
        if not isinstance(target, Node) or not (culprit := _reached(state)):
            return
        if target.kind != "call" or target.calls() in _REACHING_OUT:
            raise Inadmissible(f"loading it would put {culprit} where there is something else")
        if target.calls() not in _DEFINITIONS | {_DOORS + "cell"}:
            self.given[id(target)] = target

    def _look_at_items(self, code: int) -> None:
        at = -2
        if code != 0x61:
            at = -next(place for place, each in enumerate(reversed(self.stack), 1) if self.is_mark(each)) - 1
        target = self.stack[at]
        if isinstance(target, Node) and target.kind not in ("list", "set"):
            rest = [*target.parts, *(given for how, given in target.given if how != "items")]
            if id(target) in self.given or any(map(_reached, rest)):
                raise Inadmissible(f"loading it would call what is an attribute of an object, {_reached(target)}")


def _named(pair: list[Any]) -> tuple[str, str]:
    module, name = pair
    if type(module) is not str or type(name) is not str:
        raise Unreadable("a name that is computed")
    return module, name.split(".")[0]


def _dotted(node: Node) -> str:
    return f"{node.parts[0]}.{node.parts[1]}"


def _is_forbidden_global(value: Any) -> bool:
    return isinstance(value, Node) and value.kind == "global" and is_forbidden(*_named(value.parts))


def _items(value: Any) -> list[Any]:
    if not isinstance(value, Node) or value.kind not in ("tuple", "dict"):
        raise Unreadable("arguments that are computed")
    return value.parts


def _reached(value: Any) -> str:
    """Returns a forbidden function that a value leads to, an empty string where it leads to none, or only through what the program defines."""
    todo, seen = [value], set[int]()
    while todo:
        each = todo.pop()
        if not isinstance(each, Node) or id(each) in seen:
            continue
        seen.add(id(each))
        if each.kind == "global":
            if _is_forbidden_global(each):
                return _dotted(each)
        elif each.kind != "call" or each.calls() not in _DEFINITIONS:
            todo.extend(each.parts)
            todo.extend(given for _, given in each.given)
    return ""


def _first_reached(values: Iterable[Any]) -> str:
    return next(filter(None, map(_reached, values)), "")


def _keeps(head: Node, arguments: Iterable[Any], *, is_made: bool) -> bool:
    """Whether a global that is called with what leads to a forbidden function calls nothing of that."""
    module, name = head.parts
    dotted = _dotted(head)
    if dotted in _KEEPING or module == "itertools":
        return True
    if dotted in _FILLED:
        return not any(isinstance(each, Node) and each.kind == "call" and _is_iterated(each) and _reached(each) for each in arguments)
    home = sys.modules.get(module) or importlib.import_module(module)
    file = getattr(home, "__file__", None)
    if module == "__main__" or (file is not None and not is_library_file(file)):
        return True
    found: Any = home
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        return False
    if issubclass(found, BaseException) and module == "builtins":
        return True
    if issubclass(found, tuple):
        return is_made and hasattr(found, "_fields")
    return is_made and found.__new__ in _MAKES_NOTHING


def _is_iterated(node: Node) -> bool:
    """Whether going through what a call makes may call something: not what is only called itself."""
    return node.calls() not in _DEFINITIONS | {"functools.partial"}
