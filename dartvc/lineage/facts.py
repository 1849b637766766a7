"""What is known of a code object by itself: a digest, the names that it reads and binds, and what speaks against answering it."""

from __future__ import annotations

import dis
import itertools
import re
import types
from collections.abc import Iterable, Iterator

from xxhash import xxh3_128

from dartvc.lineage.forbidden import forbidden_names
from dartvc.model.records import NamedTuple

__all__ = ["Facts", "read_facts"]

_SETTING = frozenset({"setattr", "delattr", "__setattr__", "__delattr__", "__dict__"})
_LOOKING_UP = frozenset({"query", "eval"})
"""Methods of pandas that look names up where they are called from."""
_BETWEEN = frozenset({"CACHE", "PRECALL", "PUSH_NULL", "NOP", "EXTENDED_ARG"})
_NAME = re.compile(r"[^\W\d]\w*")
_READING_ALL = frozenset({"locals", "vars", "dir", "eval", "exec", "super"})


class Facts(NamedTuple):
    """What is known from a code object alone.

    Attributes:
        stored: globals that it assigns.
        set: attributes that it sets, of whatever object.
        sets_any: it sets attributes whose names are not known, or variables of functions around it.
        unused: the parameters that it never reads, on which nothing depends.
        texts: names in texts that are looked up in its globals.
    """

    digest: bytes
    names: tuple[str, ...]
    attributes: frozenset[str]
    imports: tuple[str, ...]
    stored: frozenset[str]
    set: frozenset[str]
    sets_any: bool
    refusal: str
    unused: frozenset[str]
    texts: frozenset[str]


def read_facts(code: types.CodeType) -> Facts:
    """Reads a code object with all code nested in it; positions, comments and layout do not count."""
    state = xxh3_128()
    names: dict[str, None] = {}
    attributes: set[str] = set()
    imports: dict[str, None] = {}
    stored: set[str] = set()
    assigned: set[str] = set()
    sets_any = False
    constants: list[object] = []
    for each in _nested(code):
        constants += each.co_consts
        state.update(each.co_code + each.co_exceptiontable)
        described = (each.co_name, each.co_names, each.co_varnames, each.co_cellvars, each.co_freevars, each.co_flags, each.co_argcount)
        state.update(repr((*described, each.co_posonlyargcount, each.co_kwonlyargcount)).encode())
        for constant in each.co_consts:
            if not isinstance(constant, types.CodeType):
                state.update(repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode("utf-8", "replace"))
                state.update(b";")
        for step in dis.get_instructions(each):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                names[step.argval] = None
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "LOAD_SUPER_ATTR"):
                attributes.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                imports[step.argval] = None
            elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                stored.add(step.argval)
            elif step.opname in ("STORE_ATTR", "DELETE_ATTR"):
                assigned.add(step.argval)
            elif step.opname in ("STORE_DEREF", "DELETE_DEREF"):
                sets_any = sets_any or step.argval in code.co_freevars
    sets_any = sets_any or not _SETTING.isdisjoint(names) or not _SETTING.isdisjoint(attributes)
    texts, refusal = _read_calls(code) if attributes & (_LOOKING_UP | {"seed"}) else (frozenset[str](), "")
    refusal = forbidden_names(names, attributes | texts, imports, texts=constants) or refusal
    sets = frozenset(stored), frozenset(assigned), sets_any
    attributes |= texts
    return Facts(state.digest(), tuple(sorted(names)), frozenset(attributes), tuple(imports), *sets, refusal, _unused(code, names) - texts, texts)


def _read_calls(code: types.CodeType) -> tuple[frozenset[str], str]:
    """Returns the names in texts such as ``frame.query("a > @LIMIT")``, and what speaks against the code: a text that is not known, ``seed()``."""
    names: set[str] = set()
    for each in _nested(code):
        steps = [step for step in dis.get_instructions(each) if step.opname not in _BETWEEN]
        for number, step in enumerate(steps):
            if step.argval not in _LOOKING_UP | {"seed"} or step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                continue
            given = list(itertools.takewhile(lambda one: one.opname == "LOAD_CONST", steps[number + 1 :]))
            after = steps[number + 1 + len(given)]
            is_bare = not given and after.opname == "CALL" and after.arg == 0
            if step.argval == "seed":
                if is_bare:
                    return frozenset(names), "seeds a stream with entropy (.seed)"
            elif given and isinstance(given[0].argval, str) and after.opname.startswith(("CALL", "KW_NAMES")):
                names.update(_NAME.findall(given[0].argval))
            elif not is_bare:
                return frozenset(names), f"looks names up in a text (.{step.argval})"
    return frozenset(names), ""


def _unused(code: types.CodeType, names: Iterable[str]) -> frozenset[str]:
    """Returns the parameters, other than collected ones, that no instruction mentions."""
    if _READING_ALL.intersection(names):
        return frozenset()
    mentioned: set[object] = set(code.co_cellvars)
    for step in dis.get_instructions(code):
        if "FAST" in step.opname:
            mentioned.update(step.argval if isinstance(step.argval, tuple) else (step.argval,))
    return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - mentioned


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)
