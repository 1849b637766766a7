"""Which strings were interned: identities that programs rely on without knowing it.

The names and literals in code are interned: one object for each text, in the whole process. Pickle brings strings back as objects of their
own, so that ``"auto"`` in a restored estimator is no longer the ``"auto"`` of the library's code; what the program pickles later has
other memo references, and its files other bytes. A run therefore records which of the strings it holds were interned.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dartvc.host.memory import WORDS, WORDS_32
from dartvc.state.walking import Waiting, by_identity, by_references, not_seen

__all__ = ["STRINGS", "find_interned", "intern_again", "is_supported", "with_interned_keys"]

STRINGS = "_.strings"
"""The key under which a co-variable's stream holds its interned strings."""

_STATE_OFFSET = 2 * ctypes.sizeof(ctypes.c_void_p) + ctypes.sizeof(ctypes.c_ssize_t) + ctypes.sizeof(ctypes.c_ssize_t)
_INTERNED_BITS = 3
_VALUES_OFFSET = 5 * ctypes.sizeof(ctypes.c_void_p)
_SAMPLE = 64
_LEAVES = frozenset({int, float, complex, bool, bytes, type(None), type, str})


def _is_interned(text: str) -> bool:
    return bool(WORDS_32[(id(text) + _STATE_OFFSET) >> 2] & _INTERNED_BITS)


def is_supported() -> bool:
    """Whether the interpreter keeps the mark where we look for it (PyASCIIObject.state)."""
    fresh = "".join(["not ", "interned"])
    return sys.implementation.name == "cpython" and _is_interned(sys.intern("".join(["int", "erned"]))) and not _is_interned(fresh)


def find_interned(roots: Iterable[object], stop: Iterable[object]) -> tuple[tuple[str, ...], list[set[Any] | frozenset[Any]]]:
    """Returns the interned strings that can be reached from values, sorted, and the sets.

    The collector passes over the keys of a dict that has only strings. They count, but for those of objects' attributes: these are interned
    whatever happens, and whether an object has a dict for them yet is nobody's state.

    Args:
        roots: where to begin.
        stop: objects that are not entered (namespaces).
    """
    seen = {id(each) for each in stop}
    found: dict[int, str] = {}
    sets: dict[int, set[Any] | frozenset[Any]] = {}
    waiting = Waiting()
    waiting.add(list(roots), (False, False))
    for piece, (is_inside, below_objects) in waiting:
        kinds = set(map(type, piece))
        if str in kinds:
            _add_marked(piece, found)
        if set in kinds or frozenset in kinds:
            sets.update((id(each), each) for each in piece if type(each) in (set, frozenset))
        entered = _to_enter(piece, kinds, seen, is_inside=is_inside)
        if dict in kinds:
            _add_marked(_keys_in(entered, below_objects=below_objects), found)
        if entered:
            waiting.add(gc.get_referents(*entered), (True, any(kind.__dictoffset__ for kind in kinds)))
    return tuple(sorted(found.values())), list(sets.values())


def _add_marked(values: Iterable[Any], found: dict[int, str]) -> None:
    texts = [each for each in values if type(each) is str]
    if len(set(map(id, texts[:_SAMPLE]))) < min(len(texts), _SAMPLE) / 2:  # few that come again and again
        texts = list(by_identity(texts).values())
    marked = [each for each in texts if WORDS_32[(id(each) + _STATE_OFFSET) >> 2] & _INTERNED_BITS]
    found.update(zip(map(id, marked), marked, strict=True))


def _keys_in(values: list[Any], *, below_objects: bool) -> set[Any]:
    """Returns the keys of the dicts among values, one of each text; at C speed, for there may be as many dicts as there are rows.

    A dict that has its keys in common with others (``PyDictObject.ma_values``) holds the attributes of an object.
    """
    found = [each for each in values if type(each) is dict]
    return set().union(*([each for each in found if not WORDS[(id(each) + _VALUES_OFFSET) >> 3]] if below_objects else found))


def _to_enter(piece: list[Any], kinds: set[type], seen: set[int], *, is_inside: bool) -> list[Any]:
    """Returns what of a piece refers to more, each object once.

    Args:
        is_inside: whether the objects were found in others, so that their references tell whether they can be met again.
    """
    if kinds <= _LEAVES:
        return []
    closed = {kind for kind in kinds if kind in _LEAVES or issubclass(kind, _CLOSED)}
    open_ = [each for each in piece if type(each) not in closed] if closed else piece
    alone, several = by_references(open_, 1 if closed else 0) if is_inside else ([], open_)
    return alone + not_seen(seen, several)


_CLOSED = (type, type(sys), type(find_interned), type(len), type(find_interned.__code__))


def with_interned_keys(names: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns names (of a namespace, of attributes) as the compiler makes them: one object for each text."""
    return {_attribute_name(name): value for name, value in names.items()}


def intern_again(loaded: dict[str, object], outside: Iterable[object] = ()) -> None:
    """Replaces strings of a loaded co-variable by the interned ones; takes their list out of the mapping.

    Args:
        loaded: the co-variable.
        outside: objects that it refers to and that were there before; they are not entered.
    """
    strings = loaded.pop(STRINGS, ())
    assert isinstance(strings, tuple)
    wanted = {id(text): sys.intern(text) for text in strings}
    wanted = {key: text for key, text in wanted.items() if id(text) != key}
    tuples: dict[int, tuple[object, tuple[object, ...]]] = {}

    def renewed(value: Any) -> Any:
        if type(value) is str:
            return wanted.get(id(value), value)
        if type(value) is tuple:
            known = tuples.get(id(value))
            if known is None:
                parts = [renewed(each) for each in value]
                fresh = tuple(parts) if any(one is not other for one, other in zip(parts, value, strict=True)) else value
                known = tuples[id(value)] = (value, fresh)
            return known[1]
        return value

    seen = {id(each) for each in outside}
    waiting = Waiting()
    waiting.add([loaded], False)
    for piece, is_inside in waiting:
        fresh = _to_enter(piece, set(map(type, piece)), seen, is_inside=is_inside)
        for each in fresh:
            _renew_in(each, renewed)
        if fresh:
            waiting.add(gc.get_referents(*fresh), True)


def _renew_in(holder: Any, renewed: Callable[[Any], Any]) -> None:
    if isinstance(holder, dict):
        _renew_items(holder, renewed, renewed)
    elif isinstance(holder, list):
        for index, value in enumerate(holder):
            fresh = renewed(value)
            if fresh is not value:
                list.__setitem__(holder, index, fresh)
    elif not isinstance(holder, tuple):
        attributes = getattr(holder, "__dict__", None)
        if type(attributes) is dict:
            _renew_items(attributes, _attribute_name, renewed)


def _attribute_name(name: Any) -> Any:
    """Returns the interned form, which attribute names always have."""
    return sys.intern(name) if type(name) is str else name


def _renew_items(mapping: dict[Any, Any], renew_key: Callable[[Any], Any], renewed: Callable[[Any], Any]) -> None:
    items = list(dict.items(mapping))
    changed = [(renew_key(key), renewed(value)) for key, value in items]
    if any(one[0] is not other[0] for one, other in zip(changed, items, strict=True)):
        dict.clear(mapping)
        for key, value in changed:
            dict.__setitem__(mapping, key, value)
    else:
        for (key, value), (_, old) in zip(changed, items, strict=True):
            if value is not old:
                dict.__setitem__(mapping, key, value)
