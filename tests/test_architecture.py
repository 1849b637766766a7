"""The drawing of the house, held against the code's own imports: docs/design/architecture.md says why, this table says what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "dartvc"

FLOORS: dict[str, int] = {
    "exports": -1,
    "errors": 0, "model": 0, "host": 0,
    "store": 1,
    "state": 2,
    "history": 3,
    "program": 4,
    "sessions": 5,
    "hindsight": 6, "lineage": 6, "remotes": 6,
    "porcelain": 7,
    "cli": 8, "board": 8, "shims": 8, "flor": 8,
    "": 9,  # dartvc/__init__.py and __main__.py: the public face
}  # fmt: skip

SAME_FLOOR: dict[tuple[str, str], str] = {
    ("errors", "model"): "an error that lost something carries the omissions as values",
    ("host", "errors"): "files and machine facts fail with the project's own errors",
    ("cli", "board"): "`dvc-state ui` starts the board",
    ("cli", "shims"): "`dvc-state run` is how a script meets a session",
    ("shims", "cli"): "the %dvc_state magic is a command line",
    ("board", "cli"): "every button of the board is a command line",
}

THIRD_PARTIES: dict[str, frozenset[str]] = {
    "pygit2": frozenset({"store", "history"}),
    "dill": frozenset({"state"}),
    "xxhash": frozenset({"state", "store", "history", "lineage"}),
    "typer": frozenset({"cli"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "IPython": frozenset({"shims"}),
    "ipykernel": frozenset({"shims"}),
    "traitlets": frozenset({"shims"}),
    "nbclient": frozenset({"shims"}),
    "nbformat": frozenset({"shims"}),
    "jupyter_client": frozenset({"shims"}),
    "libcst": frozenset({"hindsight"}),
    "duckdb": frozenset({"hindsight"}),
    "dask": frozenset({"hindsight"}),
    "distributed": frozenset({"hindsight"}),
    "fsspec": frozenset({"remotes"}),
}

# Guests belong to the user: dartvc wakes when they are loaded and never loads them. What the reader asked for by name
# (`Repository.dataframe`, `query --format parquet`) may import its library inside the function that makes it.
GUEST_ROOMS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("numpy", "torch", "sklearn", "scipy", "matplotlib", "PIL", "tensorflow", "jax", "networkx"), frozenset({"state"})),
    **dict.fromkeys(("pandas", "pyarrow", "polars"), frozenset({"state", "hindsight"})),
}

BANNED_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "managers"})
MODULE_LINES = 500
FUNCTION_LINES = 60
NOT_AT_IMPORT = ("dill", "numpy", "pandas", "torch", "typer", "IPython", "pygit2")
MACHINE_PATHS = tuple("/" + start for start in ("work/", "root/", "farm/", "tmp/v/"))


def modules() -> list[Path]:
    """Returns all modules of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def label(path: Path) -> str:
    """Returns a module's path inside the project, for messages."""
    return path.relative_to(PROJECT).as_posix()


def room_of(path: Path) -> str:
    """Returns the room that a module stands in; the empty string is the public face."""
    inside = path.relative_to(PACKAGE)
    first = inside.parts[0] if len(inside.parts) > 1 else inside.stem
    return "" if first in ("__init__", "__main__") else first


def room_of_name(dotted: str) -> str:
    """Returns the room that a dotted name below `dartvc` points into."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def parse(path: Path) -> ast.Module:
    """Parses a module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_names(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Yields every imported dotted name, its line, and whether the import stands outside of any function.

    ``from dartvc import state`` yields ``dartvc.state``; ``importlib.import_module("x")`` and ``__import__("x")`` count too.
    """
    inner = {
        id(child)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_module_level = id(node) not in inner
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, at_module_level
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            module = node.module or ""
            for alias in node.names:
                yield f"{module}.{alias.name}" if module == "dartvc" else module, node.lineno, at_module_level
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            yield from ((str(each.value), node.lineno, at_module_level) for each in node.args[:1] if _is_string(each))


def _is_string(node: ast.expr) -> TypeGuard[ast.Constant]:
    """Tells whether a node is a string literal."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST, bool]]:
    """Yields public functions, classes and methods with their qualified name and whether they have a docstring."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST, bool]]:
        for node in body:
            if isinstance(node, ast.If | ast.Try):
                yield from walk([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)], prefix)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            names = [ast.unparse(decorator) for decorator in node.decorator_list]
            if not any(name.endswith((".setter", ".deleter", "overload", "override")) for name in names):
                yield prefix + node.name, node, ast.get_docstring(node) is not None
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{prefix}{node.name}.")

    yield from walk(tree.body, "")


def isort_key(name: str) -> tuple[int, str]:
    """Sorts constants first, then classes, then functions: the order in which ruff keeps ``__all__``."""
    is_constant = name.isupper() and len(name) > 1
    return (0 if is_constant else 1 if name[:1].isupper() else 2, name)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in modules()}
    assert rooms <= set(FLOORS), f"rooms without a floor: {sorted(rooms - set(FLOORS))}"


def test_a_floor_imports_only_floors_below_it() -> None:
    wrong = []
    for path in modules():
        room = room_of(path)
        for name, line, _ in imported_names(parse(path)):
            if name.split(".")[0] != "dartvc" or name == "dartvc.__version__":
                continue
            target = room_of_name(name)
            if target == room or FLOORS[target] < FLOORS[room]:
                continue
            if FLOORS[target] == FLOORS[room] and (room, target) in SAME_FLOOR:
                continue
            wrong.append(f"{label(path)}:{line} imports {name} (floor {FLOORS[target]}) from floor {FLOORS[room]}")
    assert not wrong, "\n".join(wrong)


def test_third_parties_enter_by_their_own_door() -> None:
    wrong = []
    for path in modules():
        room = room_of(path)
        for name, line, at_module_level in imported_names(parse(path)):
            top = name.split(".")[0]
            if top == "dartvc" or top in sys.stdlib_module_names:
                continue
            if top in GUEST_ROOMS:
                if at_module_level:
                    wrong.append(f"{label(path)}:{line} imports the guest {top} at module level")
                elif room not in GUEST_ROOMS[top]:
                    wrong.append(f"{label(path)}:{line} imports the guest {top} in {room}")
            elif top not in THIRD_PARTIES:
                wrong.append(f"{label(path)}:{line} imports {top}, which has no door")
            elif room not in THIRD_PARTIES[top]:
                wrong.append(f"{label(path)}:{line} imports {top} in {room}; its door is {', '.join(sorted(THIRD_PARTIES[top]))}")
    assert not wrong, "\n".join(wrong)


def test_the_public_face_imports_lazily() -> None:
    loud = [
        f"{name} at line {line}"
        for name, line, at_module_level in imported_names(parse(PACKAGE / "__init__.py"))
        if at_module_level and name.split(".")[0] == "dartvc" and FLOORS[room_of_name(name)] > 0 and not _is_for_types_only(line)
    ]
    assert not loud, loud


def _is_for_types_only(line: int) -> bool:
    """Tells whether a line of the public face stands under ``if TYPE_CHECKING``."""
    for node in ast.walk(parse(PACKAGE / "__init__.py")):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return node.lineno <= line <= (node.end_lineno or node.lineno)
    return False


def test_importing_dartvc_loads_no_heavy_library() -> None:
    code = f"import sys, dartvc; print([name for name in {NOT_AT_IMPORT!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_what_a_run_imports_is_made_quickly() -> None:
    """No dataclasses, and named tuples that compile nothing: they were a third of the time until the program's first statement."""
    code = """
import sys, typing
import dartvc.cli.running, dartvc.lineage.programs, dartvc.lineage.reusing, dartvc.sessions.recorded, dartvc.shims.answering, dartvc.shims.script
own = [module for name, module in list(sys.modules.items()) if name.startswith("dartvc.")]
classes = {cls for module in own for cls in vars(module).values() if isinstance(cls, type) and cls.__module__.startswith("dartvc.")}
print(sorted(f"{cls.__module__}.{cls.__name__}" for cls in classes if hasattr(cls, "__dataclass_fields__") or typing.NamedTuple in getattr(cls, "__orig_bases__", ())))
print([name for name in ("importlib.resources", "shutil", "subprocess", "sysconfig", "tempfile") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_no_module_is_named_for_nothing() -> None:
    wrong = [label(path) for path in modules() if {path.stem, path.parent.name} & BANNED_NAMES]
    assert not wrong, wrong


def test_modules_and_functions_stay_short() -> None:
    wrong = []
    for path in modules():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MODULE_LINES:
            wrong.append(f"{label(path)} has {lines} lines")
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    wrong.append(f"{label(path)}:{node.lineno} {node.name} has {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_every_module_and_public_name_has_a_docstring() -> None:
    wrong = []
    for path in modules():
        tree = parse(path)
        if ast.get_docstring(tree) is None:
            wrong.append(f"{label(path)}: the module")
        wrong += [f"{label(path)}: {name}" for name, _, has_docstring in public_definitions(tree) if not has_docstring]
    assert not wrong, "\n".join(wrong)


def test_all_is_sorted_and_names_what_exists() -> None:
    wrong = []
    for path in modules():
        tree = parse(path)
        lists = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and "__all__" in [ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
        ]
        if not lists or lists[-1] is None:
            if path.stem != "__main__" and any(public_definitions(tree)):
                wrong.append(f"{label(path)}: no __all__")
            continue
        try:
            names = list(ast.literal_eval(lists[-1]))
        except ValueError:
            wrong.append(f"{label(path)}: __all__ is not a plain list")
            continue
        if names != sorted(names, key=isort_key):
            wrong.append(f"{label(path)}: __all__ is not sorted: {names}")
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        bound = {alias.asname or alias.name for node in imports for alias in node.names}
        bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        bound |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        has_lazy_names = any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
        if not has_lazy_names:
            wrong += [f"{label(path)}: __all__ names {name}, which is not there" for name in names if name not in bound]
    assert not wrong, "\n".join(wrong)


def test_no_file_of_the_project_knows_this_machine() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=PROJECT, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: the files of the project are not known")
    pattern = re.compile("|".join(r"(?<![\w.~}])" + re.escape(start) for start in MACHINE_PATHS))
    wrong = []
    for name in filter(None, done.stdout.split("\0")):
        path = PROJECT / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{name}:{number}" for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
    assert not wrong, wrong
