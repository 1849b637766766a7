"""Which definitions of a name may reach a place: reaching definitions over the statements of one scope."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dartvc.hindsight.propagation.scopes import Scope
from dartvc.hindsight.propagation.statements import Block, Program, Statement

__all__ = ["UNBOUND", "Flow", "iter_bindings"]

UNBOUND = None
"""Stands among the definitions that reach a place where the name may have no value yet."""

Definition = Statement | Scope | None
Environment = dict[str, frozenset[Definition]]
_NOTHING: frozenset[Definition] = frozenset([UNBOUND])


def iter_bindings(statement: Statement) -> Iterator[str]:
    """Yields the names that a statement's header binds in its scope."""
    for tag, value, node in statement.all_atoms:
        is_defined = tag == "b" and not isinstance(node, ast.arg)
        if is_defined or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
            yield value


class _Loop:
    def __init__(self) -> None:
        self.at_break: Environment | None = None
        self.at_continue: Environment | None = None


class Flow:
    """Reaching definitions in one scope, before each of its statements and at the end of each of its blocks."""

    def __init__(self, program: Program, scope: Scope) -> None:
        self.before: dict[Statement, Environment | None] = {}
        self.at_end: dict[Block, Environment | None] = {}
        self._program = program
        self._raised: list[list[Environment]] = []
        start: Environment = {}
        if scope.kind == "function":
            arguments = {node for node, owner in program.scopes.of.items() if owner is scope and isinstance(node, ast.arg)}
            start = {node.arg: frozenset([scope]) for node in arguments if isinstance(node, ast.arg)}
        owner = program.of_node.get(scope.node) if isinstance(scope.node, ast.stmt) else None
        block = owner.blocks[0] if owner is not None else program.root
        self._block(block, start, [])

    def at(self, block: Block, index: int) -> Environment | None:
        """Returns what reaches the gap before the statement at ``index``, or the end of the block; None: it is never reached."""
        if index < len(block.statements):
            return self.before.get(block.statements[index])
        return self.at_end.get(block)

    def _block(self, block: Block, environment: Environment | None, loops: list[_Loop]) -> Environment | None:
        for statement in block.statements:
            self.before[statement] = environment
            environment = self._statement(statement, environment, loops)
            if environment is not None and self._raised:
                self._raised[-1].append(environment)
        self.at_end[block] = environment
        return environment

    def _statement(self, statement: Statement, environment: Environment | None, loops: list[_Loop]) -> Environment | None:
        node = statement.node
        blocks = {block.label: block for block in statement.blocks}
        if statement.family == "loop":
            return self._loop(statement, blocks, environment, loops)
        after = _bind(statement, environment)
        match node:
            case ast.Return() | ast.Raise():
                return None
            case ast.Break():
                loops[-1].at_break = _join(loops[-1].at_break, after)
                return None
            case ast.Continue():
                loops[-1].at_continue = _join(loops[-1].at_continue, after)
                return None
            case ast.If():
                other = self._block(blocks["orelse"], after, loops) if "orelse" in blocks else after
                return _join(self._block(blocks["body"], after, loops), other)
            case ast.With() | ast.AsyncWith():
                return self._block(blocks["body"], after, loops)
            case ast.Try() | ast.TryStar():
                return self._try(statement, blocks, after, loops)
            case ast.Match():
                out = after
                for block in statement.blocks:
                    out = _join(out, self._block(block, after, loops))
                return out
        return after

    def _loop(
        self, statement: Statement, blocks: dict[str, Block], environment: Environment | None, loops: list[_Loop]
    ) -> Environment | None:
        """Goes twice through the body: what its end defines may reach its start."""
        loop = _Loop()
        entry = environment
        for _ in range(2):
            start = _bind(statement, entry)
            end = self._block(blocks["body"], start, [*loops, loop])
            entry = _join(_join(environment, end), loop.at_continue)
        out = entry
        if "orelse" in blocks:
            out = self._block(blocks["orelse"], entry, loops)
        is_endless = isinstance(statement.node, ast.While) and isinstance(statement.node.test, ast.Constant) and statement.node.test.value
        return loop.at_break if is_endless else _join(out, loop.at_break)

    def _try(
        self, statement: Statement, blocks: dict[str, Block], environment: Environment | None, loops: list[_Loop]
    ) -> Environment | None:
        self._raised.append([environment] if environment is not None else [])
        out = self._block(blocks["body"], environment, loops)
        caught: Environment | None = None
        for each in self._raised.pop():
            caught = _join(caught, each)
        if "orelse" in blocks:
            out = self._block(blocks["orelse"], out, loops)
        for label, block in blocks.items():
            if label.startswith("handler"):
                out = _join(out, self._block(block, caught, loops))
        if "finalbody" in blocks:
            before = _join(out, caught)
            end = self._block(blocks["finalbody"], before, loops)
            return end if out is not None else None
        return out


def _bind(statement: Statement, environment: Environment | None) -> Environment | None:
    """Returns the environment after a statement's header."""
    if environment is None:
        return None
    names = set(iter_bindings(statement))
    if isinstance(statement.node, ast.Delete):
        return {
            name: value
            for name, value in environment.items()
            if name not in {target.id for target in statement.node.targets if isinstance(target, ast.Name)}
        }
    if not names:
        return environment
    return {**environment, **dict.fromkeys(names, frozenset([statement]))}


def _join(one: Environment | None, other: Environment | None) -> Environment | None:
    """Returns what may reach a place where two paths meet."""
    if one is None or one is other:
        return other
    if other is None:
        return one
    joined = dict(one)
    for name, definitions in other.items():
        mine = one.get(name, _NOTHING)
        joined[name] = definitions if mine is definitions else mine | definitions
    for name in one.keys() - other.keys():
        joined[name] = one[name] | _NOTHING
    return joined
