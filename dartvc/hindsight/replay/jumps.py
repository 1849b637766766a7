"""Log statements whose values a commit holds already: they stand in the body of a loop, and the commit at the head of that loop.

Between such a statement and the head only the rest of the loop's body was executed. When that provably changes nothing that the statement reads, its
value in the iteration is what it gives in the commit's state, and no step of the program has to be executed for it. What the rest may change:
the names that it binds, and everything that shares memory (is one co-variable) with what it mentions, or the user's functions that it may call.
Where this is not certain, the answer is no.
"""

from __future__ import annotations

import ast
import builtins
import io
import sys
import tokenize
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.hindsight.propagation.logcalls import LogCalls
from dartvc.hindsight.replay.counters import may_continue
from dartvc.hindsight.replay.patching import name_logged
from dartvc.hindsight.replay.places import PatchedFile
from dartvc.model import Oid
from dartvc.program.sources import MODULE_SCOPE

__all__ = ["Definitions", "Jump", "Snapshot", "find_jump", "identifiers", "is_entered_once", "is_plain_path", "may_order_by_hash", "why_not"]

_UNFIT = (
    ast.Yield
    | ast.YieldFrom
    | ast.Await
    | ast.While
    | ast.Return
    | ast.Break
    | ast.Global
    | ast.Nonlocal
    | ast.Delete
    | ast.ClassDef
    | ast.FunctionDef
)
_UNCERTAIN = ast.Yield | ast.YieldFrom | ast.Await | ast.Global | ast.Nonlocal | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_REFLECTION = frozenset(
    {"globals", "locals", "vars", "eval", "exec", "setattr", "delattr", "__dict__", "_getframe", "f_locals", "f_globals"}
)
_HASHING = frozenset({"set", "frozenset", "hash", "union", "intersection", "difference", "symmetric_difference"})
_FIXED = (
    int, float, complex, str, bytes, bool, type(None), range, slice, type, types.ModuleType, types.BuiltinFunctionType, types.CodeType,
)  # fmt: skip


@dataclass(frozen=True)
class Jump:
    """Statements that were added to the body of one loop.

    Attributes:
        path: of the file.
        loop: the ``for`` loop in the patched program.
        units: the statements that log what is asked for.
    """

    path: str
    loop: ast.For
    units: tuple[ast.stmt, ...]

    def rest_after(self, unit: ast.stmt) -> list[ast.stmt]:
        """Returns the statements of the body behind a unit, without other units."""
        at = next(index for index, each in enumerate(self.loop.body) if each is unit)
        return [each for each in self.loop.body[at + 1 :] if not any(each is other for other in self.units)]


def find_jump(files: Mapping[str, PatchedFile], names: Iterable[str]) -> Jump | None:
    """Returns the jump for some names; None when a statement that logs one of them stands elsewhere than directly in one loop's body.

    Args:
        files: the patched program.
        names: what is asked for.
    """
    wanted = frozenset(names)
    found: list[tuple[str, ast.For, ast.stmt]] = []
    for path, file in files.items():
        tree = file.new_tree
        nodes = list(ast.walk(tree))
        calls = [each for each in LogCalls(tree, nodes).calls if name_logged(each) in wanted or name_logged(each) is None]
        if not calls:
            continue
        added = {id(each) for each in file.added()}
        units = [(loop, each) for loop in nodes if isinstance(loop, ast.For) for each in loop.body if id(each) in added]
        for call in calls:
            holding = [(loop, each) for loop, each in units if any(node is call for node in ast.walk(each))]
            if not holding:
                return None
            found.append((path, *holding[-1]))
    if not found or any(loop is not found[0][1] for _, loop, _ in found):
        return None
    path, loop, _ = found[0]
    units_found = tuple(each for each in loop.body if any(each is unit for _, _, unit in found))
    jump = Jump(path, loop, units_found)
    before = loop.body[: next(index for index, each in enumerate(loop.body) if each is units_found[-1])]
    if any(isinstance(node, _UNFIT) for unit in units_found for node in ast.walk(unit)) or any(map(may_continue, before)):
        return None
    return jump


def is_plain_path(through: Sequence[tuple[ast.AST, str]]) -> bool:
    """Whether a place can be left by an exception unseen: nothing around it (nodes, with the field that leads inwards) catches all or cleans up."""
    for node, field in through:
        if isinstance(node, ast.With | ast.AsyncWith | ast.TryStar | ast.While | ast.AsyncFor):
            return False
        if isinstance(node, ast.Try) and (field != "body" or node.finalbody or any(map(_catches_all, node.handlers))):
            return False
    return True


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(isinstance(each, ast.Name) and each.id == "BaseException" for each in ast.walk(handler.type))


def is_entered_once(functions: Iterable[str], texts: Iterable[str]) -> bool:
    """Whether each of some functions, by qualified name, is mentioned only where it is defined and at one other place of the program."""
    wanted = {name.rpartition(".")[2] for name in functions if name != MODULE_SCOPE}
    counts = dict.fromkeys(wanted, 0)
    for text in texts:
        try:
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                word = token.string.strip("rbuf'\"") if token.type == tokenize.STRING else token.string
                if word in counts:
                    counts[word] += 1
        except (tokenize.TokenError, SyntaxError):
            return False
    return all(count == 2 for count in counts.values())


class Definitions:
    """What the user's functions and classes mention.

    Args:
        trees: of the program's files.
    """

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        self._known: dict[str, list[ast.AST]] = {}
        self._methods: list[ast.AST] = []
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    self._known.setdefault(node.name, []).append(node)
                if isinstance(node, ast.ClassDef):
                    self._methods += node.body
                if isinstance(node, ast.Assign) and any(isinstance(each, ast.Lambda) for each in ast.walk(node.value)):
                    for target in node.targets:
                        self._known.setdefault(ast.unparse(target), []).append(node.value)

    def reached(self, nodes: Sequence[ast.AST]) -> list[ast.AST]:
        """Returns nodes, and the definitions that executing them may lead to."""
        found = list(nodes)
        seen: set[str] = set()
        has_methods = False
        for each in found:
            if not has_methods and any(
                isinstance(node, ast.Call | ast.Attribute | ast.BinOp | ast.Subscript | ast.Compare) for node in ast.walk(each)
            ):
                has_methods = True
                found += self._methods
            for name in identifiers([each]) - seen:
                seen.add(name)
                found += self._known.get(name, ())
        return found


def may_order_by_hash(nodes: Iterable[ast.AST]) -> bool:
    """Whether code may make something whose order, or value, follows from the hashes of str."""
    for node in nodes:
        mentioned = identifiers([node])
        has_views = not mentioned.isdisjoint(("keys", "items"))
        for each in ast.walk(node):
            if isinstance(each, ast.Set | ast.SetComp):
                return True
            if has_views and isinstance(each, ast.BinOp) and isinstance(each.op, ast.BitAnd | ast.BitOr | ast.BitXor | ast.Sub):
                return True
        if not mentioned.isdisjoint(_HASHING):
            return True
    return False


def identifiers(nodes: Iterable[ast.AST]) -> set[str]:
    """Returns all names and attributes that nodes mention."""
    found: set[str] = set()
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Name):
                found.add(each.id)
            elif isinstance(each, ast.Attribute):
                found.add(each.attr)
    return found


@dataclass(frozen=True)
class _Mentions:
    """What some code may read and change: names of the snapshot, and which of them are bound or written to by name."""

    names: frozenset[str]
    bound: frozenset[str]
    written: frozenset[str]
    unknown: str = ""


class Snapshot:
    """The names of a loaded commit, as one frame sees them.

    Args:
        payloads: of each name of the commit: its payload; None: it could not be stored.
        values: those that are loaded.
        prefix: of the frame's own names; empty for a module's own code.
        module: the name of the frame's module.
    """

    def __init__(self, payloads: Mapping[str, Oid | None], values: Mapping[str, object], prefix: str, module: str) -> None:
        self.payloads = payloads
        self.values = values
        self._prefix = f"{prefix}." if prefix else ""
        self._module = "" if module == "__main__" else f"{module}."
        self._by_last: dict[str, list[str]] = {}
        for name in payloads:
            if "()" not in name and "._." not in name:
                self._by_last.setdefault(name.rpartition(".")[2], []).append(name)

    def seen(self, name: str) -> str | None:
        """Returns the name of the snapshot that a name of the frame's code means; None for what is no value of the program."""
        for found in (self._prefix + name, self._module + name):
            if found in self.payloads:
                return found
        return None

    def globals(self, name: str) -> list[str]:
        """Returns the globals of the program that have a name, in any of its modules."""
        return self._by_last.get(name, [])

    def group(self, name: str) -> object:
        """Returns what is equal for all names that share memory."""
        return self.payloads[name] or name

    def is_fixed(self, name: str) -> bool:
        """Whether the value of a name cannot be changed."""
        return name in self.values and _is_fixed(self.values[name])


def _is_fixed(value: Any, depth: int = 4) -> bool:
    if isinstance(value, types.FunctionType):
        return not value.__closure__
    if type(value) in _FIXED or isinstance(value, type | types.ModuleType):
        return True
    if type(value) in (tuple, frozenset) and depth:
        return len(value) < 1000 and all(_is_fixed(each, depth - 1) for each in value)
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and not isinstance(value, numpy.void | numpy.object_)


def _mentions(nodes: Sequence[ast.AST], definitions: Definitions, snapshot: Snapshot) -> _Mentions:
    names: set[str] = set()
    bound: set[str] = set()
    written: set[str] = set()
    own = {id(each) for node in nodes for each in ast.walk(node)}
    for node in definitions.reached(nodes):
        for each in ast.walk(node):
            if isinstance(each, ast.Name | ast.Attribute):
                word = each.id if isinstance(each, ast.Name) else each.attr
                if word in _REFLECTION:
                    return _Mentions(frozenset(), frozenset(), frozenset(), f"{word} may reach anything")
            if isinstance(each, ast.Global):
                bound.update(found for name in each.names for found in snapshot.globals(name))
            elif isinstance(each, ast.Name):
                seen = snapshot.seen(each.id) if id(each) in own else None
                found = [seen] if seen is not None else snapshot.globals(each.id)
                names.update(found)
                if id(each) in own and not isinstance(each.ctx, ast.Load):
                    bound.update([seen or each.id])
            elif isinstance(each, ast.Attribute | ast.Subscript) and not isinstance(each.ctx, ast.Load):
                base = _base(each)
                if base is not None:
                    seen = snapshot.seen(base) if id(each) in own else None
                    written.update([seen] if seen is not None else snapshot.globals(base))
                    if seen is None and id(each) in own:
                        return _Mentions(frozenset(), frozenset(), frozenset(), f"{base} is no value of the commit")
    return _Mentions(frozenset(names), frozenset(bound), frozenset(written))


def _base(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def why_not(
    jump: Jump, unit: ast.stmt, definitions: Definitions, snapshot: Snapshot, namespace: Mapping[str, object]
) -> tuple[str, frozenset[str]]:
    """Returns why the value of a unit may be another at the head of the loop than where it stands, empty when it is the same; and what it reads.

    Args:
        jump: the loop.
        unit: the statement.
        definitions: of the patched program.
        snapshot: of the commit at the loop's head.
        namespace: the globals of the loop's frame, as they are loaded, with what was added at the top of the file.
    """
    rest = jump.rest_after(unit)
    if any(isinstance(node, _UNCERTAIN) for each in rest for node in ast.walk(each)):
        return "the rest of the loop's body holds more than plain statements", frozenset()
    reads, does = _mentions([unit], definitions, snapshot), _mentions(rest, definitions, snapshot)
    if reads.unknown or does.unknown:
        return reads.unknown or does.unknown, frozenset()
    own = {each.id for each in ast.walk(unit) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
    bound_in_unit = {each.id for each in ast.walk(unit) if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)}
    for name in own - bound_in_unit:
        if snapshot.seen(name) is None and not hasattr(builtins, name) and name not in namespace:
            return f"{name} is not in the commit", frozenset()
    both = (reads.names | own) & does.bound
    if both:
        return f"{min(both)} is bound anew behind the statement", frozenset()
    lost = next((name for name in does.names if snapshot.payloads[name] is None), None)
    if lost is not None:
        return f"{lost}, which is used behind the statement, could not be stored", frozenset()
    touched = {snapshot.group(name) for name in does.names if name in does.written or not snapshot.is_fixed(name)}
    shared = next((name for name in reads.names if snapshot.group(name) in touched), None)
    if shared is not None:
        return f"{shared} may be changed behind the statement", frozenset()
    return "", reads.names
