"""Which stacked arrays, and rows picked by an index, a function reads only in ways that do not need the array: its products, its shape.

``A = np.vstack(parts)`` can be put off when every use of ``A`` stands in the statements right behind it, and these do nothing that could change
a part: arithmetic, calls of numpy that have no effect, and a last hand-over to a function that uses its parameter in the same way. What the
names stand for is not known here: whoever puts a stack off checks that they stand for numbers and arrays (`Uses.reads`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

__all__ = ["STACKING", "Uses", "find_uses", "lendable_parameters"]

STACKING = frozenset({"vstack", "row_stack", "hstack", "column_stack", "concatenate"})
_FACTS = frozenset({"shape", "ndim", "dtype", "size"})
_PLAIN_CALLS = frozenset({"range", "len", "int", "float", "abs", "min", "max"})
_PURE = frozenset(
    {
        "diag",
        "eye",
        "identity",
        "full",
        "zeros",
        "ones",
        "full_like",
        "zeros_like",
        "ones_like",
        "arange",
        "linspace",
        "array",
        "asarray",
        "maximum",
        "minimum",
        "mean",
        "sum",
        "std",
        "var",
        "dot",
        "matmul",
        "outer",
        "trace",
        "solve",
        "inv",
        "pinv",
        "lstsq",
        "cholesky",
        "eigh",
        "eigvalsh",
        "eig",
        "svd",
        "qr",
        "norm",
        "det",
        "slogdet",
        "clip",
        "where",
        "round",
        "argsort",
        "any",
        "all",
    }
)
# a second argument of these would be written to
_UNARY = frozenset(
    {
        "sqrt",
        "exp",
        "log",
        "abs",
        "absolute",
        "square",
        "sign",
        "isnan",
    }
)
_THREE = frozenset({"where", "clip", "linspace", "arange"})
_INDEXING = frozenset(
    {"setdiff1d", "flatnonzero", "permutation", "delete", "choice", "concatenate", "hstack", "argsort", "isin", "in1d", "logical_not"}
)
_COMPOUND = ast.For | ast.While | ast.If | ast.With | ast.Try
_OPAQUE = frozenset({"locals", "vars", "eval", "exec", "dir", "globals"})


class Uses:
    """What was found in one function.

    Attributes:
        deferrable: the stacking calls, and subscripts by an index array, that may be put off, by identity of their node, with the names read until the last use.
        handing: the calls that hand a stack over to a function, by identity of their node.
        names: the names that such stacks are given.
    """

    def __init__(self) -> None:
        self.deferrable: dict[int, frozenset[str]] = {}
        self.handing: set[int] = set()
        self.names: set[str] = set()

    def are_in(self, statement: ast.stmt) -> bool:
        """Whether a statement makes, reads or hands over a stack that may be put off."""
        return bool(self.deferrable or self.handing) and any(
            id(each) in self.deferrable or id(each) in self.handing or (isinstance(each, ast.Name) and each.id in self.names) for each in ast.walk(statement)
        )


def find_uses(function: ast.FunctionDef | ast.Module) -> Uses:
    """Finds the stacks of one function that may be put off; those of a module only where they are handed over at once."""
    uses = Uses()
    if _is_opaque(function):
        return uses
    indexes = _index_arrays(function)
    candidates = dict(_iter_candidates(function, indexes)) if isinstance(function, ast.FunctionDef) else {}
    candidates = {name: candidates[name] for name in _agreeing({name: place[1:] for name, place in candidates.items()})}
    for name, place in candidates.items():
        reader = _Reader(set(candidates))
        reads = reader.read(place[1:], name)
        uses.deferrable[id(place[0].value)] = frozenset(reads or ())  # type: ignore[attr-defined]
        uses.handing |= reader.handing
        uses.names.add(name)
    for block in _iter_blocks(function):
        for statement in block:
            reader = _Reader(set(), indexes)
            if reader.statement(statement, is_handing_over=True):
                for call in reader.handed_over:
                    uses.deferrable[id(call)] = frozenset(reader.reads)
                uses.handing |= reader.handing
    return uses


def lendable_parameters(function: ast.FunctionDef) -> dict[str, frozenset[str]]:
    """Returns the parameters that a function uses only as one may use a stack that was put off, with the names read until the last use."""
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    found: dict[str, frozenset[str]] = {}
    if arguments.vararg or arguments.kwarg or _is_opaque(function):
        return found
    held = _agreeing({name: function.body for name in names if _count(function, name, ast.Store) == 0})
    return {name: frozenset(_Reader(held).read(function.body, name) or ()) for name in sorted(held)}


def _agreeing(blocks: Mapping[str, list[ast.stmt]]) -> set[str]:
    """Returns the names that may be stacks put off, all at the same time; ``blocks`` are the statements that read them."""
    held = {name for name, block in blocks.items() if _Reader({name}).read(block, name) is not None}
    while True:
        agreed = {name for name in held if _Reader(held).read(blocks[name], name) is not None}
        if agreed == held:
            return held
        held = agreed


def _is_opaque(function: ast.FunctionDef | ast.Module) -> bool:
    return any(isinstance(each, ast.Name) and each.id in _OPAQUE for each in ast.walk(function))


def _count(tree: ast.AST, name: str, context: type[ast.expr_context]) -> int:
    """Returns how often a name is loaded, or stored to or deleted."""
    wanted = (ast.Store, ast.Del) if context is ast.Store else (context,)
    return sum(isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, wanted) for each in ast.walk(tree)) + sum(
        name in each.names for each in ast.walk(tree) if isinstance(each, ast.Global | ast.Nonlocal)
    )


def _iter_blocks(function: ast.FunctionDef | ast.Module) -> Iterator[list[ast.stmt]]:
    """Yields the lists of statements of a function, not those of functions inside it."""
    pending: list[ast.AST] = [function]
    while pending:
        node = pending.pop()
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield block
                pending.extend(each for each in block if isinstance(each, _COMPOUND))
        pending.extend(getattr(node, "handlers", ()))


def _index_arrays(function: ast.FunctionDef | ast.Module) -> frozenset[str]:
    """Returns the names that only ever stand for what looks like an array of row numbers or a mask: the folds of a ``split``, a comparison."""
    found: dict[str, bool] = {}
    for node in ast.walk(function):
        targets, is_index = [], False
        if isinstance(node, ast.For):
            call = node.iter.args[0] if isinstance(node.iter, ast.Call) and _called(node.iter) == "enumerate" and node.iter.args else node.iter
            targets, is_index = [node.target], isinstance(call, ast.Call) and _called(call) == "split"
        elif isinstance(node, ast.Assign):
            is_mask = isinstance(node.value, ast.Compare) or (isinstance(node.value, ast.UnaryOp) and isinstance(node.value.op, ast.Invert))
            targets, is_index = node.targets, is_mask or (isinstance(node.value, ast.Call) and _called(node.value) in _INDEXING)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr | ast.comprehension):
            targets = [node.target]
        elif isinstance(node, ast.arg):
            found[node.arg] = False
        for target in targets:
            for each in ast.walk(target):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    found[each.id] = is_index and found.get(each.id, True)
    return frozenset(name for name, is_index in found.items() if is_index)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""


def _is_gathering(node: ast.expr, indexes: frozenset[str]) -> bool:
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Load)
        and isinstance(node.value, ast.Name)
        and isinstance(node.slice, ast.Name)
        and node.slice.id in indexes
    )


def _iter_candidates(function: ast.FunctionDef, indexes: frozenset[str]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yields each name that is stored to once, by a stacking call or such a subscript, and loaded in the same block only; with the block from there on."""
    parameters = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    for block in _iter_blocks(function):
        for position, statement in enumerate(block):
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                continue
            if not _is_stacking(statement.value) and not _is_gathering(statement.value, indexes):
                continue
            target, rest = statement.targets[0], block[position:]
            if not isinstance(target, ast.Name) or target.id in parameters or _count(function, target.id, ast.Store) != 1:
                continue
            loads = sum(_count(each, target.id, ast.Load) for each in rest[1:])
            if loads and loads == _count(function, target.id, ast.Load):
                yield target.id, rest


def _is_stacking(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not isinstance(node.func.value, ast.Name):
        return False
    is_append = node.func.attr == "append" and len(node.args) == 2 and [each.arg for each in node.keywords] == ["axis"]
    return is_append or (node.func.attr in STACKING and len(node.args) == 1)


def _has_no_effect(name: str, call: ast.Call) -> bool:
    """Whether a call of numpy's function of this name, or of an array's method, changes nothing."""
    if any(keyword.arg in (None, "out") for keyword in call.keywords):
        return False
    most = 1 if name in _UNARY else 3 if name in _THREE else 2
    return len(call.args) <= most and (name in _PURE or name in _UNARY or name in STACKING)


class _Reader:
    """Reads statements that may run while the stacks of some names are put off.

    Args:
        held: these names.
        indexes: names of index arrays; rows picked by them may be handed over.
    """

    def __init__(self, held: set[str], indexes: frozenset[str] = frozenset()) -> None:
        self.held = held
        self.indexes = indexes
        self.reads: set[str] = set()
        self.handing: set[int] = set()
        self.handed_over: list[ast.expr] = []

    def read(self, block: list[ast.stmt], name: str) -> set[str] | None:
        """Returns the names that are read up to the last use of ``name``; None when a statement before it may do anything."""
        last = max((number for number, each in enumerate(block) if _count(each, name, ast.Load)), default=-1)
        for number, statement in enumerate(block[: last + 1]):
            if not self.statement(statement, is_handing_over=number == last):
                return None
        return self.reads

    def statement(self, node: ast.stmt, *, is_handing_over: bool) -> bool:
        """Whether a statement does nothing but compute and bind local names."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return True
        if isinstance(node, ast.Assign):
            targets = [inner for each in node.targets for inner in (each.elts if isinstance(each, ast.Tuple) else [each])]
            if not all(isinstance(each, ast.Name) for each in targets):
                return False
        elif not isinstance(node, ast.Return):
            return False
        return node.value is None or self.simple(node.value) or (is_handing_over and self._hand_over(node.value))

    def _hand_over(self, node: ast.expr) -> bool:
        """Whether an expression is the call of a function by name that gets stacks among its arguments."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id in self.held:
            return False
        is_handing = False
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(each, ast.Name) and each.id in self.held:
                is_handing = True
            elif (_is_stacking(each) or _is_gathering(each, self.indexes)) and self.simple(each):
                is_handing = True
                self.handed_over.append(each)
            elif not self.simple(each):
                return False
        if any(keyword.arg is None for keyword in node.keywords):
            return False
        if is_handing:
            self.handing.add(id(node))
        return is_handing

    def simple(self, node: ast.expr) -> bool:
        """Whether an expression only computes, given that its names stand for numbers and arrays."""
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name):
            self.reads.add(node.id)
            return node.id not in self.held
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in self.held:
                return node.attr in _FACTS
            return (node.attr in _FACTS or node.attr == "T") and self.simple(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            return self._operand(node.left) and self._operand(node.right)
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Compare | ast.Subscript | ast.Tuple | ast.List | ast.Slice):
            return all(self.simple(each) for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr))
        if isinstance(node, ast.ListComp):
            return self._comprehension(node)
        return isinstance(node, ast.Call) and self._call(node)

    def _operand(self, node: ast.expr) -> bool:
        inner = node.value if isinstance(node, ast.Attribute) and node.attr == "T" else node
        return (isinstance(inner, ast.Name) and inner.id in self.held) or self.simple(node)

    def _comprehension(self, node: ast.ListComp) -> bool:
        if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
            return False
        generator = node.generators[0]
        return all(self.simple(each) for each in (generator.iter, *generator.ifs, node.elt))

    def _call(self, node: ast.Call) -> bool:
        function = node.func
        if isinstance(function, ast.Name):
            if function.id not in _PLAIN_CALLS:
                return False
            self.reads.add(function.id)
            if function.id == "len" and len(node.args) == 1 and isinstance(node.args[0], ast.Name) and node.args[0].id in self.held:
                return True
        elif isinstance(function, ast.Attribute) and _has_no_effect(function.attr, node):
            root = function.value
            if isinstance(root, ast.Attribute) and root.attr == "linalg":
                root = root.value
            if not isinstance(root, ast.Name):
                return False
            self.reads.add(root.id)
        else:
            return False
        return all(self.simple(each) for each in (*node.args, *(keyword.value for keyword in node.keywords)))
