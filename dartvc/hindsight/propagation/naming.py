"""What the expressions of a travelling statement are called at a place in OLD, or why they have no name there."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from dartvc.hindsight.propagation.alignment import Alignment
from dartvc.hindsight.propagation.likeness import home_of
from dartvc.hindsight.propagation.renames import Name
from dartvc.hindsight.propagation.scopes import Scope
from dartvc.hindsight.propagation.statements import Program, Statement
from dartvc.hindsight.propagation.units import Travelling, mentioned_names
from dartvc.model.records import NamedTuple

__all__ = ["Import", "Namer", "Naming", "Unnamed", "Whole"]

_CLEAR = 2.0


class Import(NamedTuple):
    """One imported name: ``attribute`` is None for a module."""

    local: str
    module: str
    attribute: str | None
    scope: Scope | None
    alias: ast.alias
    statement: Statement


class Whole(str):
    """A spelling that stands for a whole node, not only for the name in it."""

    __slots__ = ()


class Unnamed(Exception):
    """Something in a statement has no certain counterpart in OLD; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How a statement reads in OLD: new spellings of its nodes, the variables that it uses, the imports and support that it needs."""

    spellings: dict[ast.AST, str]
    variables: dict[Name, str]
    imports: tuple[Import, ...]
    needs: tuple[Name, ...]


class Namer:
    """Names what travels, for one pair of versions."""

    def __init__(self, alignment: Alignment, travelling: Travelling) -> None:
        self._alignment = alignment
        self._travelling = travelling
        self._imports = {(each.scope, each.local): each for each in _iter_imports(alignment.new)}
        self._old_imports = list(_iter_imports(alignment.old))
        self._own_words = _own_words(alignment.new)
        self._old_words = _own_words(alignment.old) | {
            (tag, value) for each in alignment.old.statements for tag, value, _ in each.all_atoms if tag in "ac"
        }
        self._old_unbound = {
            node.id for node, scope in alignment.old.scopes.of.items() if isinstance(node, ast.Name) and scope.home(node.id) is None
        }
        self._binders = _binders(alignment.new)
        self._mentions = _mentions(alignment.new)
        self._old_mentions: dict[str, set[Statement]] = defaultdict(set)
        for (_, spelled), statements in _mentions(alignment.old).items():
            self._old_mentions[spelled] |= statements
        self._claims: dict[Name, list[Name]] = defaultdict(list)
        for mine, counter in alignment.votes.names.items():
            for theirs in counter:
                self._claims[theirs].append(mine)

    def name(self, root: ast.AST, scope: Scope) -> Naming:
        """Names everything in a node of NEW as it is called in a scope of OLD.

        Raises:
            Unnamed: something has no certain counterpart.
        """
        program = self._alignment.new
        inner = {id(program.scopes.own[node]) for node in ast.walk(root) if node in program.scopes.own}
        spellings: dict[ast.AST, str] = {}
        variables: dict[Name, str] = {}
        imports: dict[str, Import] = {}
        needs: list[Name] = []
        unit = program.of_node.get(root)
        owner = unit.block.owner if unit is not None else None
        whole = self._imported_attributes(root, scope)
        spellings.update(whole)
        skipped = {id(inner) for node in whole for inner in ast.walk(node)}
        log_functions = {id(call.func) for call in program.logs.find_calls(root)}
        for node in ast.walk(root):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Attribute) and id(node) not in log_functions:
                self._spell_word(node, "a", node.attr, spellings)
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                self._spell_word(node.slice, "c", repr(node.slice.value), spellings)
            elif isinstance(node, ast.Call):
                self._check_call(node, spellings)
            if not isinstance(node, ast.Name):
                continue
            home = home_of(program, node, node.id)
            if home is not None and id(home) in inner:
                continue
            name = (home, node.id)
            if name in self._imports:
                spelling = self._import(self._imports[name], scope, imports)
            elif self._is_support(name):
                spelling = node.id
                needs.append(name)
                self._check_free(node.id, scope, name)
            else:
                spelling = self._variable(name, scope, owner, _function_of(program.scopes.of[root]))
                variables[name] = spelling
            if spelling != node.id:
                spellings[node] = spelling
        return Naming(spellings, variables, tuple(imports.values()), tuple(dict.fromkeys(needs)))

    def _is_support(self, name: Name) -> bool:
        binders = self._binders.get(name)
        return binders is not None and binders <= self._travelling.members

    def _check_free(self, spelling: str, scope: Scope, name: Name) -> None:
        """A variable that travels must not overwrite one of OLD."""
        home = scope.home(spelling)
        if home is None or (home.kind == "module" and scope.kind == "function" and name[0] is not None and name[0].kind == "function"):
            return
        raise Unnamed(f"{spelling} is used for something else in OLD")

    def _import(self, wanted: Import, scope: Scope, needed: dict[str, Import]) -> str:
        for each in self._old_imports:
            if (each.module, each.attribute) == (wanted.module, wanted.attribute) and scope.home(each.local) is each.scope:
                return each.local
        if wanted.attribute is not None:
            for each in self._old_imports:
                if each.module == wanted.module and each.attribute is None and scope.home(each.local) is each.scope:
                    return f"{each.local}.{wanted.attribute}"
        if scope.home(wanted.local) is not None:
            raise Unnamed(f"{wanted.local} is something else in OLD than the {wanted.module} that NEW imports")
        needed[wanted.local] = wanted
        return wanted.local

    def _imported_attributes(self, root: ast.AST, scope: Scope) -> dict[ast.AST, str]:
        """Returns what ``module.name`` of NEW is where OLD imports the name and not the module."""
        found: dict[ast.AST, str] = {}
        visible = {(each.module, each.attribute): each.local for each in self._old_imports if scope.home(each.local) is each.scope}
        for node in ast.walk(root):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                wanted = self._imports.get((home_of(self._alignment.new, node.value, node.value.id), node.value.id))
                if wanted is not None and wanted.attribute is None and (wanted.module, None) not in visible:
                    local = visible.get((wanted.module, node.attr))
                    if local is not None:
                        found[node] = Whole(local)
        return found

    def _variable(self, name: Name, scope: Scope, owner: Statement | None, function: Scope) -> str:
        """Returns what a variable of a function of NEW is called in a scope of OLD, by the votes of the matched statements."""
        home, spelled = name
        theirs = scope.home(spelled)
        if home is None:
            if theirs is not None:
                raise Unnamed(f"{spelled} is a variable in OLD, and is not bound in NEW")
            if not hasattr(builtins, spelled) and spelled not in self._old_unbound:
                raise Unnamed(f"{spelled} does not exist in OLD")
            return spelled
        votes = self._alignment.votes.names.get(name, {})
        visible = {each: weight for each, weight in votes.items() if scope.home(each[1]) is each[0] and each[0] is not None}
        if not visible:
            if theirs is None:
                raise Unnamed(f"{spelled} does not exist in OLD")
            raise Unnamed(f"nothing tells that {spelled} in OLD is what {spelled} is in NEW")
        best, *others = sorted(visible, key=lambda each: (-visible[each], each[1] != spelled))
        if others and others[0][1] != best[1] and visible[best] < _CLEAR * visible[others[0]]:
            raise Unnamed(f"{spelled} may be {best[1]} or {others[0][1]} in OLD")
        if best[1] != spelled and best not in self._alignment.votes.bindings[name]:
            rival = next((rival for rival in self._claims[best] if rival[1] != spelled), None)
            if rival is not None:
                raise Unnamed(f"{spelled} does not exist in OLD, as far as can be told ({best[1]} is {rival[1]} there)")
        self._check_uses(name, best[1], owner)
        self._check_rebinding(name, function, best, _function_of(scope))
        return best[1]

    def _check_rebinding(self, name: Name, function: Scope, theirs: Name, their_function: Scope) -> None:
        """What is the function's own in one version and lives outside of it in the other is not the same when other functions bind it anew."""
        is_own, is_own_there = name[0] is function, theirs[0] is their_function
        if is_own == is_own_there:
            return
        which, (home, spelled), around = ("OLD", theirs, their_function) if is_own else ("NEW", name, function)
        program = self._alignment.old if is_own else self._alignment.new
        for each in program.scopes.own.values():
            declared = spelled in each.global_names or spelled in each.nonlocal_names
            if declared and each is not around and spelled in each.bound and each.home(spelled) is home:
                raise Unnamed(f"{spelled} lives outside of the function in {which}, where other functions bind it anew")

    def _check_uses(self, name: Name, spelled: str, owner: Statement | None) -> None:
        """A variable whose statements, or those nearby, mostly use something else in OLD is not the same one, whatever its name."""
        uses = {True: [0, 0], False: [0, 0]}
        for mine in self._mentions.get(name, ()):
            image = self._alignment.to_old.get(mine)
            if image is not None:
                uses[owner is None or owner.encloses(mine)][image in self._old_mentions[spelled]] += 1
        (near_lacking, near_shared), (far_lacking, far_shared) = uses[True], uses[False]
        is_other_nearby = near_lacking > 0 and near_shared == 0
        if is_other_nearby or near_lacking + far_lacking > near_shared + far_shared:
            raise Unnamed(f"OLD has something else where NEW uses {name[1]}")

    def _spell_word(self, node: ast.AST, tag: str, value: str, spellings: dict[ast.AST, str]) -> None:
        """Spells an attribute, keyword or string key as OLD does."""
        try:
            spelled = self._alignment.votes.word(tag, value)
        except LookupError:
            raise Unnamed(f"{value} has several names in OLD") from None
        if spelled is None and (tag, value) in self._own_words and (tag, value) not in self._old_words:
            what = {"a": "attribute ", "c": "key ", "k": "argument "}[tag]
            raise Unnamed(f"the {what}{value} does not exist in OLD")
        if spelled is not None and spelled != value:
            spellings[node] = spelled

    def _check_call(self, call: ast.Call, spellings: dict[ast.AST, str]) -> None:
        """A function of the user's own must take in OLD what the statement gives it."""
        if not isinstance(call.func, ast.Name) or any(isinstance(each, ast.Starred) for each in call.args):
            return
        home = home_of(self._alignment.new, call.func, call.func.id)
        for definition in self._binders.get((home, call.func.id), ()):
            old = self._alignment.to_old.get(definition)
            if old is None or not isinstance(old.node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for keyword in call.keywords:
                if keyword.arg is not None:
                    self._spell_word(keyword, "k", keyword.arg, spellings)
            arguments = old.node.args
            positional = [*arguments.posonlyargs, *arguments.args]
            keywords = {spellings.get(each, each.arg) for each in call.keywords if each.arg is not None}
            required = len(positional) - len(arguments.defaults) - sum(each.arg in keywords for each in positional)
            is_enough = len(call.args) >= required or any(each.arg is None for each in call.keywords)
            if not is_enough or (len(call.args) > len(positional) and arguments.vararg is None):
                raise Unnamed(f"{old.node.name} takes other arguments in OLD")


def _function_of(scope: Scope) -> Scope:
    """Returns the scope of the function, class or module that a scope stands in: a comprehension's is that around it."""
    while scope.kind == "comprehension" and scope.parent is not None:
        scope = scope.parent
    return scope


def _iter_imports(program: Program) -> Iterator[Import]:
    for statement in program.statements:
        node = statement.node
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            local = alias.asname or alias.name.split(".")[0]
            home = home_of(program, alias, local)
            if isinstance(node, ast.ImportFrom):
                yield Import(local, "." * node.level + (node.module or ""), alias.name, home, alias, statement)
            else:
                module = alias.name if alias.asname else local
                yield Import(local, module, None, home, alias, statement)


def _binders(program: Program) -> dict[Name, set[Statement]]:
    """Returns, for each variable, the statements that bind it; parameters have none."""
    found: dict[Name, set[Statement]] = defaultdict(set)
    for statement in program.statements:
        for tag, value, node in statement.all_atoms:
            is_bound = tag == "b" and not isinstance(node, ast.arg)
            if node is not None and (is_bound or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))):
                found[home_of(program, node, value), value].add(statement)
    for name, statements in list(found.items()):
        home = name[0]
        if home is not None and home.kind == "function" and name[1] in _parameters(home.node):
            owner = program.of_node.get(home.node) if isinstance(home.node, ast.stmt) else None
            if owner is not None:
                statements.add(owner)
    return found


def _mentions(program: Program) -> dict[Name, set[Statement]]:
    """Returns, for each variable, the statements whose headers mention it."""
    found: dict[Name, set[Statement]] = defaultdict(set)
    for name, statement in mentioned_names(program, program.statements):
        found[name].add(statement)
    return found


def _parameters(node: ast.AST) -> set[str]:
    arguments = getattr(node, "args", None)
    return {each.arg for each in ast.walk(arguments) if isinstance(each, ast.arg)} if isinstance(arguments, ast.arguments) else set()


def _own_words(program: Program) -> set[tuple[str, str]]:
    """Returns the attributes and string keys that a module makes itself."""
    words = set()
    for node in program.source.nodes:
        match node:
            case ast.Attribute(ctx=ast.Store()):
                words.add(("a", node.attr))
            case ast.Subscript(ctx=ast.Store(), slice=ast.Constant(value=str(key))):
                words.add(("c", repr(key)))
            case ast.Dict():
                words |= {("c", repr(key.value)) for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
            case ast.ClassDef():
                for each in node.body:
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                        words.add(("a", each.name))
                    elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        words.add(("a", each.target.id))
                    elif isinstance(each, ast.Assign):
                        words |= {("a", target.id) for target in each.targets if isinstance(target, ast.Name)}
    return words
