"""A tracer executes a program over items: its modules, definitions and the calls of its own functions.

Each call of a function of the user's is executed anew, so that what it makes depends on what it was given, and closed into one item for each object that it made
or changed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence

from dartvc.lineage.traces.branches import Branches
from dartvc.lineage.traces.expressions import Arguments, Frame, Surroundings
from dartvc.lineage.traces.heap import Binding, Constant, Function, Instance, Library, Module, Thing, UserClass
from dartvc.lineage.traces.items import CALL, NAME, LineageItem, Step
from dartvc.lineage.traces.statements import Source, Ways

__all__ = ["Tracer"]

_DEPTH_LIMIT = 40
_RECURSION_LIMIT = 2
_STEPS_LIMIT = 60_000
_TRANSPARENT = frozenset(
    {
        "staticmethod",
        "classmethod",
        "property",
        "wraps",
        "cache",
        "lru_cache",
        "cached_property",
        "contextmanager",
        "no_grad",
        "inference_mode",
        "njit",
        "jit",
        "vectorize",
    }
)


class Tracer(Branches):
    """Traces a program.

    Args:
        surroundings: what the program was given.
        ways: which ways it took.
        find_module: returns the source of a module of the user's by its name, None for a library's.
    """

    def __init__(self, surroundings: Surroundings, ways: Ways, find_module: Callable[[str], Source | None]) -> None:
        super().__init__(surroundings, ways)
        self._find_module = find_module
        self._modules: dict[str, Thing] = {}
        self._calls: list[ast.AST] = []
        self._owners: dict[int, Thing] = {}
        self._dataclasses: dict[Thing, list[str]] = {}
        self.sources: dict[str, Source] = {}
        """The pieces of code that were executed, by file."""
        self.executed_functions: set[int] = set()
        """The identities of the syntax nodes of functions whose bodies were executed."""
        self.locals: dict[str, Mapping[str, Binding]] = {}
        """The names of each function's last activation, by its qualified name."""

    def run(self, source: Source) -> None:
        """Executes a script, or the next cell."""
        self._module_frames[source.file] = self.main
        self._execute_module(source, self.main)

    def value(self, name: str) -> LineageItem | None:
        """Returns the item of a name: see `binding`; None when nothing binds it."""
        binding = self.binding(name)
        if binding is None:
            return None
        item = made = self.heap.use(binding.thing)
        while made.inner is not None:
            made = made.inner
        aliasing = [each for each in binding.steps if each.since >= made.number]
        return self.maker.make(NAME, (item,), (name,), _joined_step(aliasing)) if aliasing else item

    def binding(self, name: str) -> Binding | None:
        """Returns what a name stands for at the end: a global one, a module's (``model.WEIGHTS``), a function's (``main().loss``)."""
        function, is_local, local = name.rpartition("().")
        if is_local:
            return self.locals.get(function, {}).get(local)
        found = self.heap.find((self.main,), name)
        if found is None:
            module, _, rest = name.rpartition(".")
            nature = self.heap.nature(self._modules[module]) if module in self._modules else None
            found = self.heap.find((nature.frame,), rest) if isinstance(nature, Module) else None
        return found

    def _execute_module(self, source: Source, frame: int) -> None:
        outer = self.frame, self._source, self._around, self._controls, self.step
        self.frame, self._source, self._around, self._controls = Frame(source.file, "", (frame,), frame), source, (), ()
        self.sources[source.file] = source
        try:
            self.block([each for each in source.tree.body if each.lineno <= source.last_line])
        finally:
            self.frame, self._source, self._around, self._controls, self.step = outer
            self.heap.is_left = False

    # -- definitions ---------------------------------------------------------------------------------------------------------------

    def _exec_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        name = f"{self.frame.function}.{node.name}" if self.frame.function else node.name
        thing = self.define(node, name)
        others = [
            each for each in node.decorator_list if _name_of(each) not in _TRANSPARENT and not _name_of(each).endswith(("setter", "getter"))
        ]
        for each in others:
            decorator = self.evaluate(each)
            nature = self.heap.nature(decorator)
            if isinstance(nature, Function):
                thing = self.call_function(nature, Arguments((thing,)), decorator)
            elif not isinstance(nature, Library) or not isinstance(self.heap.nature(thing), Function):
                thing = self.result("decorated", [decorator, thing], (), [thing])
        self.heap.bind(self.frame.elsewhere.get(node.name, self.frame.own), node.name, thing, self.step)

    _exec_AsyncFunctionDef = _exec_FunctionDef

    def define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, qualname: str) -> Thing:
        """Returns a function of the user's."""
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = dict(
            zip(
                [each.arg for each in positional[len(positional) - len(arguments.defaults) :]],
                map(self.evaluate, arguments.defaults),
                strict=True,
            )
        )
        defaults.update(
            (each.arg, self.evaluate(value))
            for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if value is not None
        )
        decorators = {_name_of(each) for each in getattr(node, "decorator_list", ())}
        function = Function(
            node,
            self.frame.file,
            qualname,
            self.frame.frames,
            defaults,
            is_static="staticmethod" in decorators,
            is_class_method="classmethod" in decorators,
            is_property=not decorators.isdisjoint({"property", "cached_property"}),
        )
        item = self.item("def", defaults.values(), [qualname, ast.dump(node)])
        return self.heap.new(item, function)

    def _exec_ClassDef(self, node: ast.ClassDef) -> None:
        bases = tuple(self.evaluate(each) for each in node.bases)
        cls = self.heap.new(self.item("class", bases, [node.name, ast.dump(node)]), UserClass(node.name, bases))
        outer, own = self.frame, self.new_frame()
        name = f"{outer.function}.{node.name}" if outer.function else node.name
        self.frame = Frame(outer.file, name, (own, *outer.frames), own, None, outer.calls, dict(outer.elsewhere))
        try:
            with self._inside(node):
                self.block(node.body)
        finally:
            self.frame = outer
        frame = self.heap.frames.get(own, {})
        self.heap.fields[cls] = {name: binding.thing for name, binding in frame.items()}
        for binding in frame.values():
            member = self.heap.nature(binding.thing)
            if isinstance(member, Function):
                self._owners[id(member.node)] = cls
        if any(_name_of(each) == "dataclass" for each in node.decorator_list):
            annotated = [each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
            self._dataclasses[cls] = annotated
        self.heap.bind(outer.elsewhere.get(node.name, outer.own), node.name, cls, self.step)

    def _exec_Import(self, node: ast.Import) -> None:
        for each in node.names:
            whole = self._module(each.name)
            name = each.asname or each.name.partition(".")[0]
            self.heap.bind(self.frame.own, name, whole if each.asname else self._module(each.name.partition(".")[0]), self.step)

    def _exec_ImportFrom(self, node: ast.ImportFrom) -> None:
        name = node.module or ""
        module = self._module(name)
        for each in node.names:
            if each.name == "*":
                nature = self.heap.nature(module)
                if isinstance(nature, Module):
                    for key, binding in self.heap.frames.get(nature.frame, {}).items():
                        self.heap.bind(self.frame.own, key, binding.thing, self.step)
                continue
            inner = (
                self._module(f"{name}.{each.name}")
                if self._find_module(f"{name}.{each.name}") is not None
                else self.attribute(module, each.name)
            )
            self.heap.bind(self.frame.own, each.asname or each.name, inner, self.step)

    def _module(self, name: str) -> Thing:
        known = self._modules.get(name)
        if known is not None and known in self.heap.items:
            return known
        source = self._find_module(name)
        if source is None:
            return self.library(name)
        frame = self.new_frame()
        self._modules[name] = self.heap.new(self.item("import", (), [name]), Module(frame))
        self._module_frames[source.file] = frame
        self._execute_module(source, frame)
        return self._modules[name]

    # -- calls ---------------------------------------------------------------------------------------------------------------------

    def instantiate(self, cls: Thing, arguments: Arguments) -> Thing:
        """Returns a new instance of a user's class."""
        nature = self.heap.nature(cls)
        assert isinstance(nature, UserClass)
        start = self.member(cls, "__init__")
        function = self.heap.nature(start) if start is not None else None
        things = arguments.all()
        if not isinstance(function, Function) or start is None:
            thing = self.heap.new(
                self._given(nature.name, [cls], arguments),
                Instance(cls),
                [each for each in things if type(self.heap.nature(each)) is not Constant],
            )
            names = self._dataclasses.get(cls, ())
            self.heap.fields[thing] = {**dict(zip(names, arguments.positional, strict=False)), **arguments.keywords}
            return thing
        thing = self.heap.new(self.item(nature.name, [cls]), Instance(cls))
        self.call_function(function, Arguments((thing, *arguments.positional), arguments.keywords), start)
        return thing

    def call_function(self, function: Function, arguments: Arguments, callee: Thing) -> Thing:
        """Returns what a call of a user's function gives: its body is executed, and closed into one item for each object."""
        node = function.node
        is_too_deep = len(self._calls) >= _DEPTH_LIMIT or self._calls.count(node) >= _RECURSION_LIMIT or self._steps > _STEPS_LIMIT
        if is_too_deep:
            return self.heap.new(self._given(CALL, [callee], arguments), None, arguments.all())
        since, first_thing, before = self.maker.last, len(self.heap.natures), dict(self.heap.items)
        outer = self.frame, self._around, self._controls, self._source, self._breaks
        own = self.new_frame()
        calls = (*self.frame.calls, *self.step.nodes[-1:])
        owner = self._owners.get(id(node))
        subject = (owner, arguments.positional[0]) if owner is not None and arguments.positional else None
        self.frame = Frame(function.file, function.qualname, (own, *function.frames), own, subject, calls)
        self._source = self.sources.get(function.file, self._source)
        self._around, self._breaks = (id(node),), []
        self._calls.append(node)
        self.executed_functions.add(id(node))
        try:
            self._give(function, arguments)
            if isinstance(node, ast.Lambda):
                self.frame.results.append((self.evaluate(node.body), self.heap.copy()))
            else:
                self.block(node.body)
                if not self.heap.is_left:
                    self.frame.results.append((self.constant(None), self.heap.copy()))
            result = self._returned()
            self.locals[function.qualname.replace("<locals>.", "")] = self.heap.frames.get(own, {})
        finally:
            self._calls.pop()
            self.frame, self._around, self._controls, self._source, self._breaks = outer
        self.step.reads.update(dict.fromkeys(self.exits.get((id(node), calls), ())))
        self._close(CALL, since, first_thing, before, "", [function.qualname], [result])
        return result

    def _returned(self) -> Thing:
        """Goes on where any of the returns of the present function left off; returns what it gave."""
        results = self.frame.results
        if not results:
            self.heap.is_left = False
            return self.constant(None)  # it ends with an exception on every way
        things = [thing for thing, _ in results]
        self.heap = results[0][1]
        self.heap.join([heap for _, heap in results[1:]], self.step)
        self.heap.is_left = False
        if self.frame.yields:
            given = self.either(self.frame.yields)
            return self.heap.new(self.item("generator", [given]), None, [given])
        return self.either(things)

    def _give(self, function: Function, arguments: Arguments) -> None:
        """Binds the parameters of a function."""
        names = function.node.args
        own = self.frame.own
        positional = [each.arg for each in (*names.posonlyargs, *names.args)]
        for name, thing in function.defaults.items():
            self.heap.bind(own, name, thing, self.step)
        for name, thing in zip(positional, arguments.positional, strict=False):
            self.heap.bind(own, name, thing, self.step)
        if names.vararg is not None:
            rest = arguments.positional[len(positional) :]
            self.heap.bind(own, names.vararg.arg, self.result("tuple", rest, (), rest), self.step)
        known = {*positional, *(each.arg for each in names.kwonlyargs)}
        for name, thing in arguments.keywords.items():
            if name in known:
                self.heap.bind(own, name, thing, self.step)
        if names.kwarg is not None:
            more = {name: thing for name, thing in arguments.keywords.items() if name not in known}
            thing = self.result("dict", list(more.values()), (), more.values())
            self.heap.fields[thing] = {f"[{name!r}]": each for name, each in more.items()}
            self.heap.bind(own, names.kwarg.arg, thing, self.step)


def _joined_step(steps: Sequence[Step]) -> Step:
    """Returns a step that stands for those that gave a name its value."""
    first = steps[0]
    return Step(
        first.place,
        first.text,
        tuple(node for each in steps for node in each.nodes),
        first.calls,
        tuple(item for each in steps for item in each.controls),
        reads=dict.fromkeys(steps),
    )


def _name_of(node: ast.expr) -> str:
    """Returns the last name of a decorator."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
