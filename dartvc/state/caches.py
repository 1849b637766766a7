"""What `functools.lru_cache` has kept: read from the wrapper and put back, without running the function that it wraps.

A cache is state: what was made once (a generator, a registry, the one instance of a class) is meant to be that one object from then on. The
wrapper is written in C and shows its contents to the collector of cycles alone. It is filled by calls of it, in the order in which its entries were
used last; meanwhile the wrapped function has code that hands out what was recorded.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Iterable
from itertools import chain, repeat, starmap
from typing import Any

from dartvc.host.places import is_library_file

__all__ = ["Contents", "contents_of", "fill", "is_library_s", "parts_of"]

Contents = tuple[list[tuple[tuple[Any, ...], dict[str, Any], Any]], int, int]
"""Entries as (arguments, named arguments, result), the one that was used longest ago first; the numbers of hits and misses."""

_NOTHING_NAMED: dict[str, Any] = {}  # one for all entries: it is pickled once
_MOST_CALLS = 4_000_000
"""How many hits and misses are counted again, at 0.05 and 0.3 us each."""


def is_library_s(cache: Any) -> bool:
    """Whether a cache belongs to a module that is not the user's."""
    path = getattr(sys.modules.get(cache.__module__), "__file__", None)
    return cache.__module__ != "__main__" and (path is None or is_library_file(path))


def parts_of(cache: Any) -> Iterable[object]:
    """Returns what a cache refers to, but for what all caches have in common; nothing of a library's."""
    if is_library_s(cache):
        return ()
    found = _find(cache)
    return (*chain.from_iterable(found[0]), cache.__wrapped__) if found is not None else gc.get_referents(cache)


def contents_of(cache: Any) -> Contents | None:
    """Returns what a cache holds, None where it cannot be filled again: it wraps something that is not written in Python."""
    found = _find(cache) if _function_in(cache.__wrapped__) is not None else None
    if found is None:
        return None
    entries, mark = found
    is_typed, info = cache.cache_parameters()["typed"], cache.cache_info()
    if is_typed or id(mark) in map(id, chain.from_iterable([key for key, _ in entries if type(key) is tuple])):
        return [(*_arguments(key, mark, is_typed), result) for key, result in entries], info.hits, info.misses
    return [(key if type(key) is tuple else (key,), _NOTHING_NAMED, result) for key, result in entries], info.hits, info.misses


def fill(cache: Any, contents: Contents) -> None:
    """Gives a cache what it held; whatever is in it goes."""
    entries, hits, misses = contents
    function = _function_in(cache.__wrapped__)
    assert function is not None
    cache.cache_clear()
    results = iter([result for _, _, result in entries])
    code = function.__code__
    function.__code__ = _STAND_IN.replace(co_consts=(results.__next__,), co_freevars=code.co_freevars)
    try:
        for arguments, named, _ in entries:
            cache(*arguments, **named)
        for _ in range(min(misses - len(entries), _MOST_CALLS)):
            try:
                cache(object())
            except StopIteration:  # there is no result more: nothing is left in the cache
                pass
        if entries:
            arguments, named, _ = entries[-1]
            deque(starmap(functools.partial(cache, *arguments, **named), repeat((), min(hits, _MOST_CALLS))), maxlen=0)
    finally:
        function.__code__ = code


def _stand_in(*arguments: Any, **named: Any) -> Any:
    take: Any = None  # stands for what takes the next result
    return take()


_STAND_IN = _stand_in.__code__


def _function_in(wrapped: Any) -> types.FunctionType | None:
    while isinstance(wrapped, types.MethodType | functools.partial):
        wrapped = wrapped.__func__ if isinstance(wrapped, types.MethodType) else wrapped.func
    return wrapped if isinstance(wrapped, types.FunctionType) else None


def _find(cache: Any) -> tuple[list[tuple[Any, Any]], object] | None:
    """Returns (key, result) of a cache's entries and what stands between arguments and named ones in a key; None where it looks otherwise.

    The wrapper leads to its type, then for each entry to the key, the result and the entry's type, then to a dict by key, to the function and
    to the mark (CPython, Modules/_functoolsmodule.c, ``lru_cache_tp_traverse``). The dict of a cache without bounds has the results themselves.
    """
    referents, count = gc.get_referents(cache), cache.cache_info().currsize
    begin = len(referents) and int(referents[0] is type(cache))
    for width in (3, 2, 0):
        by_key, _, mark = [*referents[begin + width * count :], None, None, None][:3]
        if type(by_key) is dict and len(by_key) == count and type(mark) is object:
            if not width:
                return list(by_key.items()), mark
            keys = referents[begin : begin + width * count : width]
            if set(map(id, keys)) == set(map(id, by_key)):
                return list(zip(keys, referents[begin + 1 :: width], strict=False)), mark
    return None


def _arguments(key: Any, mark: object, is_typed: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments that make a key: (\\*arguments), or the one itself; [mark, name, value ...]; [types]."""
    if type(key) is not tuple:
        return (key,), _NOTHING_NAMED
    at = next((index for index, part in enumerate(key) if part is mark), None)
    if at is None:
        return key[: len(key) // 2] if is_typed else key, _NOTHING_NAMED
    pairs = (len(key) - 2 * at - 1) // 3 if is_typed else (len(key) - at - 1) // 2
    named = key[at + 1 : at + 1 + 2 * pairs]
    return key[:at], dict(zip(named[::2], named[1::2], strict=True))
