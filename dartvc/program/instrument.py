"""What `run --reuse` compiles instead of the plain source: functions are announced, heavy operations carry a switch, decisions a mark.

``def f`` gets one more decorator, the innermost, which returns the same function. An operation ``a @ b`` becomes ``__dvc_7__(a, b) if __dvc_7__
else a @ b``: while the switch is off (the hook is None), this costs the look-up of one builtin, 3 ns. Line numbers, names and the order of
evaluation stay what they were.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dartvc.program.blocks import cut_into_blocks, cut_loops, name_blocks, outermost_name, without_blocks_inside
from dartvc.program.decisions import NextStream, note_streams, put_marks
from dartvc.program.deferrable import find_uses, lendable_parameters
from dartvc.program.hanging import Hung, find_hung
from dartvc.program.sources import MODULE_SCOPE, Sources, iter_codes
from dartvc.program.watched import BLOCK, LOOP, is_loop_block

__all__ = ["ANNOUNCE", "HAND", "Compiler", "UserModules", "switch_name"]

ANNOUNCE = "__dvc_define__"
HAND = "__dvc_hand__"
_TRANSPARENT = frozenset({"staticmethod", "classmethod", "property", "wraps", "functools.wraps", "setter"})
_OPERATIONS_INSIDE = 3
_BY_VALUE = ("cloudpickle.cloudpickle", "joblib.externals.cloudpickle.cloudpickle")
_STACK = "vstack hstack column_stack row_stack concatenate stack block append insert tile repeat kron outer"
_ALGEBRA = "dot matmul tensordot einsum multi_dot solve lstsq inv pinv det svd svdvals eig eigh eigvals eigvalsh qr cholesky lu expm norm cov corrcoef"
_ORDER = "sort argsort unique percentile quantile nanpercentile nanquantile median nanmedian histogram digitize searchsorted cdist pdist"
_SIGNAL = "fft ifft rfft irfft fft2 ifft2 convolve correlate fftconvolve savgol_filter interp polyfit"
_LEARN = """fit transform fit_transform inverse_transform predict predict_proba predict_log_proba decision_function fit_predict score kneighbors
    cross_val_score cross_val_predict cross_validate train_test_split make_classification make_regression make_blobs permutation_importance
    roc_auc_score log_loss silhouette_score pairwise_distances rbf_kernel mutual_info_classif mutual_info_regression f_classif f_regression"""
_TABLES = "merge groupby pivot_table get_dummies rolling read_csv describe corr crosstab melt drop_duplicates duplicated sort_values rank resample"
_STACKING = frozenset(_STACK.split())
OPERATIONS = frozenset(" ".join((_STACK, _ALGEBRA, _ORDER, _SIGNAL, _LEARN, _TABLES)).split())
"""Names of calls that may take long; a name says where to look, measuring says what to keep."""


NextSite = Callable[[str, str, int, frozenset[str] | None], int]
"""Is called for each switch with the name of the operation, file, line, and for a stack that may be put off the names read meanwhile."""


NextBlock = Callable[[str, str, int, bool], int]
"""Is called for each block with the name of its function (empty: a loop of the script's own), file, line, and whether it is a part of a loop's turn; returns the
number of its switch."""


_Place = tuple[str, str, int, tuple[int, int]]
"""File, qualified name, first line; of code without a name its first line and column."""


def switch_name(number: int) -> str:
    """Returns the builtin that holds the hook of an operation; its last underscores keep it whole inside classes."""
    return f"__dvc_{number}__"


class _Cutter(ast.NodeTransformer):
    """Cuts functions into blocks, except those whose stacks may be put off; notes which parameters may be given such a stack."""

    def __init__(self, next_block: NextBlock, filename: str) -> None:
        self.next_block = next_block
        self.filename = filename
        self.lendable: dict[tuple[str, str, int], dict[str, frozenset[str]]] = {}

    def cut_script(self, module: ast.Module, text: str) -> None:
        """Cuts the loops of a script's own level."""
        uses = find_uses(module)
        cut_loops(
            module,
            text,
            lambda statement: not uses.are_in(statement),
            lambda line, in_loop: switch_name(self.next_block("", self.filename, line, in_loop)),
        )

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        parameters, uses = lendable_parameters(node), find_uses(node)
        if parameters:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            self.lendable[self.filename, node.name, first] = parameters
        cut_into_blocks(
            node,
            lambda line, in_loop: switch_name(self.next_block(node.name, self.filename, line, in_loop)),
            lambda statement: not uses.are_in(statement),
        )
        return node


class _Instrumenter(ast.NodeTransformer):
    def __init__(self, next_site: NextSite, filename: str, methods: frozenset[str]) -> None:
        self.next_site = next_site
        self.methods = methods
        self.filename = filename
        self.announced: set[tuple[str, str, int]] = set()
        self._deferrable: dict[int, frozenset[str]] = {}
        self._handing: set[int] = set()

    def _look_at(self, node: ast.FunctionDef | ast.Module) -> None:
        """Notes which stacks may be put off: before anything in the node is exchanged."""
        uses = find_uses(node)
        self._deferrable.update(uses.deferrable)
        self._handing |= uses.handing

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self._look_at(node)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._look_at(node)
        node.body = [self.visit(each) for each in node.body]
        if node.name in (BLOCK, LOOP):
            return node
        is_plain = all(_decorator(each) in _TRANSPARENT for each in node.decorator_list)
        if is_plain and not _is_special(node.name) and not _is_generator(node):
            mark = ast.copy_location(ast.Name(ANNOUNCE, ast.Load()), node)
            node.decorator_list = [*node.decorator_list, mark]
            self.announced.add((self.filename, node.name, min(each.lineno for each in node.decorator_list)))
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return self._switch(node, "@", [node.left, node.right], []) if isinstance(node.op, ast.MatMult) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        is_deferrable = id(node) in self._deferrable
        self.generic_visit(node)
        return self._switch(node, "[]", [node.value, node.slice], []) if is_deferrable else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _STACKING and id(call) not in self._handing:
            self.generic_visit(call)  # a stack that nobody takes is none: this is a list's `append`
            return node
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        if id(node) in self._handing:
            return ast.copy_location(ast.Call(ast.copy_location(ast.Name(HAND, ast.Load()), node), [node.func, *node.args], node.keywords), node)
        if name not in OPERATIONS and not (name in self.methods and isinstance(node.func, ast.Attribute)):
            return node
        return self._switch(node, name, [node.func, *node.args], node.keywords)

    def _switch(self, node: ast.expr, name: str, arguments: list[ast.expr], keywords: list[ast.keyword]) -> ast.expr:
        inside = list(ast.walk(node))
        if any(isinstance(each, ast.NamedExpr | ast.Yield | ast.YieldFrom | ast.Await) for each in inside):
            return node
        if sum(isinstance(each, ast.Name) and each.id.startswith("__dvc_") for each in inside) > 2 * _OPERATIONS_INSIDE:
            return node
        number = self.next_site(name, self.filename, node.lineno, self._deferrable.get(id(node)))
        test, hook = (ast.copy_location(ast.Name(switch_name(number), ast.Load()), node) for _ in range(2))
        call = ast.copy_location(ast.Call(hook, arguments, keywords), node)
        return ast.copy_location(ast.IfExp(test, call, node), node)


def _decorator(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) and node.attr == "setter" else ast.unparse(node)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_generator(node: ast.FunctionDef) -> bool:
    pending: list[ast.AST] = list(node.body)
    while pending:
        each = pending.pop()
        if isinstance(each, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(each))
    return False


class Compiler:
    """Compiles user's files with and without instrumentation, and knows which code stands for which.

    Args:
        sources: the source files of the process.
        next_site: returns the number of a switch.
        next_block: returns the number of the switch of a block.
        methods: names of attributes whose calls get a switch beside `OPERATIONS`.
        next_stream: returns the builtin that is told what the statements of a scope decide; None: nothing is.

    Attributes:
        hung: what the files hang on what they import.
    """

    def __init__(
        self, sources: Sources, next_site: NextSite, next_block: NextBlock, methods: frozenset[str] = frozenset(),
        next_stream: NextStream | None = None,
    ) -> None:  # fmt: skip
        self._sources = sources
        self._methods = methods
        self._next_site = next_site
        self._next_block = next_block
        self._next_stream = next_stream
        self._plain: dict[_Place, types.CodeType | None] = {}
        self._lendable: dict[tuple[str, str, int], dict[str, frozenset[str]]] = {}
        self._watched: dict[_Place, types.CodeType | None] = {}
        self._announced: set[tuple[str, str, int]] = set()
        self.hung: list[Hung] = []
        self._statements: dict[str, list[types.CodeType]] = {}

    def compile(self, filename: str, text: str, *, is_script: bool = False) -> types.CodeType:
        """Returns the instrumented code of a file; of a script the loops of its own level are blocks."""
        unit = self._sources.find(filename)
        if unit is None or unit.text != text:
            unit = self._sources.add(filename, text)
        self._plain.update(_by_place(unit.code, filename))
        cutter = _Cutter(self._next_block, filename)
        tree = ast.parse(text, filename)
        self.hung += find_hung(tree, filename)
        if self._next_stream is not None:
            note_streams(tree, filename, text, self._next_stream)
        tree = cutter.visit(tree)
        if is_script:
            cutter.cut_script(tree, text)
        tree = ast.fix_missing_locations(tree)
        blocks = compile(without_blocks_inside(tree), filename, "exec", unit.flags, dont_inherit=True)
        for place, code in _by_place(blocks, filename).items():
            self._plain.setdefault(place, code)
        instrumenter = _Instrumenter(self._next_site, filename, self._methods)
        tree = ast.fix_missing_locations(instrumenter.visit(tree))
        put_marks(tree)
        self._lendable.update(cutter.lendable)
        self._announced |= instrumenter.announced
        whole = name_blocks(compile(tree, filename, "exec", unit.flags, dont_inherit=True))
        self._watched.update(_by_place(whole, filename))
        return whole

    def transform(self, filename: str, text: str, tree: ast.Module, flags: int = 0) -> ast.Module:
        """Returns a cell's tree, instrumented, for the shell to compile statement by statement; nothing in it is a block.

        Args:
            flags: with which the shell compiles; what the cell imports from ``__future__`` comes to them.

        Raises:
            SyntaxError: it is no Python without the shell.
        """
        from dartvc.program.cells import FEATURES, add_cell, compile_statement, future_flags  # of no use to a script, nor to its workers

        unit = add_cell(self._sources, filename, text, (flags | future_flags(text)) & FEATURES)
        if unit is None:
            raise SyntaxError(f"{filename} is no plain Python")
        for code in unit.compiled():
            self._plain.update(_by_place(code, filename))
        self.hung += find_hung(tree, filename)
        instrumenter = _Instrumenter(self._next_site, filename, self._methods)
        tree = ast.fix_missing_locations(instrumenter.visit(tree))
        self._announced |= instrumenter.announced
        statements = [code for node in copy.deepcopy(tree).body for code in compile_statement(node, filename, unit.flags)]
        self._statements[filename] = statements
        for code in statements:
            self._watched.update(_by_place(code, filename))
        return tree

    def statements(self, filename: str) -> Sequence[types.CodeType]:
        """Returns what a shell compiles the statements of a cell to that `transform` has instrumented."""
        return self._statements.get(filename, ())

    def knows(self, filename: str) -> bool:
        """Whether a file was compiled here."""
        unit = self._sources.find(filename)
        return unit is not None and any(place[0] == filename for place in self._watched)

    def is_announced(self, code: types.CodeType) -> bool:
        """Whether the function of a code object asks before it runs."""
        return (code.co_filename, code.co_name, code.co_firstlineno) in self._announced

    def watched(self, code: types.CodeType) -> types.CodeType | None:
        """Returns what stands for a function's plain code when its file was compiled here and is the same; else None."""
        place = _place_of(code)
        plain = self._plain.get(place)
        found = self._watched.get(place)
        if plain is None or found is None or (plain.co_code, plain.co_names, plain.co_freevars) != (code.co_code, code.co_names, code.co_freevars):
            return None
        return found if found.co_freevars == code.co_freevars else None

    def lendable(self, code: types.CodeType) -> dict[str, frozenset[str]]:
        """Returns the parameters of a function that may be given a stack that was put off; see `lendable_parameters`."""
        return self._lendable.get((code.co_filename, code.co_name, code.co_firstlineno), {})

    def plain(self, code: types.CodeType) -> types.CodeType:
        """Returns what a code object would be without instrumentation: the code that reuse is keyed by."""
        return self._plain.get(_plain_place_of(code)) or code

    def written(self, code: types.CodeType) -> types.CodeType:
        """Returns the code of the function, or of the module, whose watched form a frame runs; of any other code that itself."""
        place = _place_of(code)
        if self._watched.get(place) != code:
            return code
        unit = self._sources.find(code.co_filename) if is_loop_block(code) else None
        return unit.code if unit is not None else self.plain(code)

    def plain_twin(self, function: types.FunctionType) -> types.FunctionType:
        """Returns a function like this one with the code that the user wrote."""
        code = self.plain(function.__code__)
        if code is function.__code__ or code.co_freevars != function.__code__.co_freevars:
            return function
        twin = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
        functools.update_wrapper(twin, function)
        vars(twin).pop("__wrapped__", None)
        twin.__kwdefaults__ = function.__kwdefaults__
        return twin


def _by_place(code: types.CodeType, filename: str) -> dict[_Place, types.CodeType | None]:
    """Returns a file's code objects by where they stand; None where nothing tells two of them apart."""
    found: dict[_Place, types.CodeType | None] = {}
    for each in iter_codes(code):
        place = filename, *_place_of(each)[1:]
        found[place] = each if found.get(place, each) == each else None
    return found


def _place_of(code: types.CodeType) -> _Place:
    """Returns where a code object stands: of one without a name (a lambda, a comprehension), of which a line may have many, where it begins, too."""
    start = 0, 0
    if code.co_name.startswith("<") and code.co_name != MODULE_SCOPE:
        positions = ((line, column) for line, _, column, end in code.co_positions() if line is not None and column is not None and end)
        start = min(positions, default=start)
    return code.co_filename, code.co_qualname, code.co_firstlineno, start


def _plain_place_of(code: types.CodeType) -> _Place:
    """Returns where the plain code of a code object stands."""
    filename, qualname, line, start = _place_of(code)
    return filename, outermost_name(qualname), line, start


class UserModules:
    """Imports the user's own modules through a `Compiler`; everything else is left to Python."""

    def __init__(
        self, is_user: Callable[[str], bool], compiler: Compiler, patches: Mapping[str, Callable[[types.ModuleType], None]] | None = None
    ) -> None:
        self._is_user = is_user
        self._compiler = compiler
        self._packages: dict[tuple[str, ...], bool] = {}
        self._patches = {**dict.fromkeys(_BY_VALUE, self._send_plain), **(patches or {})}

    def _send_plain(self, module: types.ModuleType) -> None:
        """Makes cloudpickle send functions to other processes with the code that the user wrote."""
        pickler: Any = getattr(module, "Pickler", None)
        reduce_function = getattr(pickler, "_dynamic_function_reduce", None)
        if reduce_function is not None:
            pickler._dynamic_function_reduce = lambda own, function: reduce_function(own, self._compiler.plain_twin(function))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the spec of a user's module with a loader of ours."""
        if path is not None and fullname not in self._patches and not self._may_hold_own(path):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if fullname in self._patches and spec is not None and spec.origin is not None:
            spec.loader = _PatchingLoader(fullname, spec.origin, self._patches[fullname])
            return spec
        if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader or spec.origin is None:
            return None
        origin = os.path.abspath(spec.origin)
        if not self._is_user(origin):
            return None
        spec.loader = _Loader(fullname, spec.origin, self._compiler)
        return spec

    def _may_hold_own(self, path: Iterable[str]) -> bool:
        """Whether modules of a package with this path may be the user's: those of libraries are not looked for twice."""
        folders = tuple(path)
        known = self._packages.get(folders)
        if known is None:
            known = any(self._is_user(os.path.join(os.path.abspath(folder), "__init__.py")) for folder in folders)
            self._packages[folders] = known
        return known

    def install(self) -> None:
        """Puts this finder before Python's own; what is imported already is changed at once."""
        sys.meta_path.insert(0, self)
        for name, patch in self._patches.items():
            if name in sys.modules:
                patch(sys.modules[name])


class _PatchingLoader(importlib.machinery.SourceFileLoader):
    """Imports a library's module and lets a function change something in it."""

    def __init__(self, fullname: str, path: str, patch: Callable[[types.ModuleType], None]) -> None:
        super().__init__(fullname, path)
        self._patch = patch

    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        self._patch(module)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, compiler: Compiler) -> None:
        super().__init__(fullname, path)
        self._compiler = compiler

    def get_code(self, fullname: str) -> types.CodeType | None:
        text = importlib.util.decode_source(self.get_data(self.path))
        return self._compiler.compile(self.path, text)
