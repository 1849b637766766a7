"""Program slices (Weiser, 1981): the part of a program's text that a value needs, as a program that makes this value alone.

Kept are the statements behind the value's items and what decided that they were executed; of the functions that these call the statements behind the value, and every
way out of them; definitions and imports whose names are mentioned in what is kept; and calls that set how libraries compute. Lines are the user's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from dartvc.lineage.traces.items import LineageItem, Step
from dartvc.lineage.traces.statements import Source
from dartvc.lineage.traces.tracer import Tracer
from dartvc.program.decisions import blocks_of

__all__ = ["slice_of", "slice_of_cells"]

_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_IMPORTS = ast.Import | ast.ImportFrom
_SETTING = re.compile(r"^_*(set|use|enable|disable|filter|catch|simplefilter|options?|config)")


def slice_of(tracer: Tracer, name: str, source: Source) -> str:
    """Returns the part of a file that a value needs, as source text; the file's other statements are left out.

    Args:
        tracer: what traced the program.
        name: whose value is wanted.
        source: the file: the script, a module, a cell.
    """
    return _Slicer(tracer, name).texts([source])[0]


def slice_of_cells(tracer: Tracer, name: str, cells: Sequence[Source]) -> str:
    """Returns the parts of cells that the value of a name needs, one after the other; what one imports or defines another one may mention."""
    return "".join(_Slicer(tracer, name).texts(cells))


class _Slicer:
    def __init__(self, tracer: Tracer, name: str) -> None:
        self.executed = tracer.executed_functions
        self.needed: set[int] = set()
        self._exits = tracer.exits
        self._executions = tracer.executions
        self._seen: set[int] = set()
        self._taken: set[tuple[int, tuple[int, ...]]] = set()
        binding = tracer.binding(name)
        if binding is not None:
            self._add(tracer.heap.use(binding.thing), binding.steps)

    def _add(self, root: LineageItem, bound_by: Sequence[Step]) -> None:
        """Takes in what a value was made of, what gave it its name, and the statements behind them with all that they read."""
        items, steps = [root], list(bound_by)
        taken: set[Step] = set()
        while items or steps:
            while items:
                item = items.pop()
                if item.number not in self._seen:
                    self._seen.add(item.number)
                    items += _everything(item)
                    steps += [item.step] if item.step is not None else []
            while steps:
                step = steps.pop()
                if step not in taken:
                    taken.add(step)
                    items += (*step.controls, *step.items)
                    steps += (*step.reads, *self._executions.get((step.nodes, step.calls), ()), *self._take(step))

    def _take(self, step: Step) -> list[Step]:
        """Takes a step's syntax nodes in; returns how the functions and loops among them are left."""
        places = [(each, step.calls) for each in step.nodes]
        fresh = [each for each in places if each not in self._taken]
        self._taken.update(fresh)
        self.needed.update(step.nodes)
        return [each for place in fresh for each in self._exits.get(place, ())]

    def texts(self, sources: Sequence[Source]) -> list[str]:
        """Returns the slices of pieces of code that share their names."""
        kept = [self._kept(each.tree.body, set()) for each in sources]
        while True:
            names = {name for source, own in zip(sources, kept, strict=True) for each in _walk(source.tree, own) for name in _names(each)}
            more = [self._kept(each.tree.body, names) for each in sources]
            if more == kept:
                break
            kept = more
        return [_text(source, own) for source, own in zip(sources, kept, strict=True)]

    def _kept(self, body: Iterable[ast.stmt], names: set[str]) -> frozenset[int]:
        kept: set[int] = set()
        for each in body:
            self._keep(each, names, kept, is_whole=False)
        return frozenset(kept)

    def _keep(self, node: ast.stmt, names: set[str], kept: set[int], *, is_whole: bool) -> bool:
        """Decides about a statement and those in it; returns whether it is kept."""
        own = id(node)
        if isinstance(node, _DEFINITIONS):
            is_kept = is_whole or own in self.needed or node.name in names
            if is_kept:
                is_class = isinstance(node, ast.ClassDef)
                inner_whole = not is_class and id(node) not in self.executed
                for each in node.body:
                    if is_class and isinstance(each, _DEFINITIONS):
                        self._keep(each, {*names, each.name}, kept, is_whole=id(each) not in self.executed)
                    else:
                        self._keep(each, names, kept, is_whole=inner_whole or is_class)
        elif isinstance(node, _IMPORTS):
            bound = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            is_kept = is_whole or bool(bound & names) or getattr(node, "module", "") == "__future__" or "*" in bound
        elif isinstance(node, ast.Global | ast.Nonlocal):
            is_kept = True
        else:
            inside = [self._keep(each, names, kept, is_whole=is_whole) for each in _children(node)]
            is_kept = is_whole or own in self.needed or any(inside) or (isinstance(node, ast.Expr) and _is_setting(node.value))
        if is_kept:
            kept.add(own)
        return is_kept


def _text(source: Source, kept: frozenset[int]) -> str:
    """Returns the lines of the statements that are kept."""
    lines: set[int] = set()
    emptied: dict[int, str] = {}
    for each in source.tree.body:
        _lines_of(each, kept, lines, emptied)
    text = []
    for number, line in enumerate(source.lines, 1):
        if number in lines:
            text.append(line)
        if number in emptied:
            text.append(emptied[number])
    return "\n".join(text) + "\n" if text else ""


def _everything(item: LineageItem) -> Iterable[LineageItem]:
    return (*item.inputs, *((item.inner,) if item.inner is not None else ()))


def _is_setting(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and _SETTING.match(node.func.attr) is not None
        and _is_dotted(node.func.value)
    )


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _children(node: ast.stmt) -> list[ast.stmt]:
    return [each for block in blocks_of(node) for each in block]


def _walk(tree: ast.Module, kept: frozenset[int]) -> Iterable[ast.stmt]:
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        each = waiting.pop()
        if id(each) in kept:
            yield each
            waiting.extend(_children(each))


def _names(node: ast.stmt) -> set[str]:
    """Returns the names that a statement mentions itself, not the statements in it."""
    found: set[str] = set()
    waiting: list[ast.AST] = [
        each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case)
    ]
    waiting += [each.type for each in getattr(node, "handlers", ()) if each.type is not None]
    waiting += [part for each in getattr(node, "cases", ()) for part in (each.pattern, each.guard) if part is not None]
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Name):
            found.add(each.id)
        waiting.extend(ast.iter_child_nodes(each))
    return found


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(int(each.lineno) for each in getattr(node, "decorator_list", ()))])


def _lines_of(node: ast.stmt, kept: frozenset[int], lines: set[int], emptied: dict[int, str]) -> None:
    """Adds the lines of a statement that is kept; a block that lost all its statements gets a ``pass``."""
    if id(node) not in kept:
        return
    own = set(range(_first_line(node), (node.end_lineno or node.lineno) + 1))
    for each in _children(node):
        own -= set(range(_first_line(each), (each.end_lineno or each.lineno) + 1)) - {node.lineno}
    lines |= own
    for block in blocks_of(node):
        if block and not any(id(each) in kept for each in block):
            emptied[_first_line(block[0]) - 1] = " " * block[0].col_offset + "pass"
        for each in block:
            _lines_of(each, kept, lines, emptied)
