"""The standard library: locks, weak references, connections, iterators.

What stands for a resource of this process (a lock, a connection) is stored as the way to make it again. What cannot be
made again says so at commit: a held lock, a running thread, a socket.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from dartvc.state.definitions import reduce_expression
from dartvc.state.rebuild import door
from dartvc.state.strings import with_interned_keys

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS", "reduce_dict_subclass"]


def _reduce_lock(lock: Any, saving: Any) -> Any:
    if lock.locked():
        raise saving.refuse(lock, "the lock is held", "commit when nobody holds it")
    return door("lock"), ()


def _reduce_rlock(lock: Any, saving: Any) -> Any:
    if "owner=0" not in repr(lock):
        raise saving.refuse(lock, "the lock is held", "commit when nobody holds it")
    return door("rlock"), ()


def _reduce_weakref(reference: Any, saving: Any) -> Any:
    callback = reference.__callback__
    return (door("weakref"), (reference(),)) if callback is None else (door("weakref_calling"), (reference(), callback))


def _reduce_proxy(proxy: Any, saving: Any) -> Any:
    referent, callbacks = proxy.__repr__.__self__, gc.get_referents(proxy)
    return (door("weakref_proxy_calling"), (referent, *callbacks)) if callbacks else (door("weakref_proxy"), (referent,))


def _reduce_weak_values(mapping: Any, saving: Any) -> Any:
    return door("weak_values"), (saving.keep(dict(mapping)),)


def _reduce_weak_keys(mapping: Any, saving: Any) -> Any:
    return door("weak_keys"), (saving.keep(list(mapping.items())),)


def _reduce_weak_set(mapping: Any, saving: Any) -> Any:
    return door("weak_set"), (saving.keep(list(mapping)),)


def _reduce_sqlite(connection: Any, saving: Any) -> Any:
    if connection.in_transaction:
        raise saving.refuse(connection, "the database connection has an open transaction", "commit the transaction first")
    path = connection.execute("pragma database_list").fetchone()[2]
    described = (connection.isolation_level, connection.row_factory, connection.text_factory)
    if path:
        return door("sqlite"), (path, None, *described)
    is_empty = not connection.execute("pragma page_count").fetchone()[0]
    return door("sqlite"), (":memory:", None if is_empty else connection.serialize(), *described)


def _build_sqlite(loading: Any, path: str, content: bytes | None, isolation: Any, row_factory: Any, text_factory: Any) -> Any:
    import sqlite3

    connection = sqlite3.connect(loading.located(path), isolation_level=isolation, check_same_thread=False)
    if content is not None:
        connection.deserialize(content)
    connection.row_factory = row_factory
    connection.text_factory = text_factory
    return connection


def _reduce_cursor(cursor: Any, saving: Any) -> Any:
    if any(type(each).__name__ == "Statement" for each in gc.get_referents(cursor)):
        raise saving.refuse(cursor, "the database cursor has rows that were not fetched", "fetch them first")
    columns = cursor.description and [each[0] for each in cursor.description]
    found = (columns, cursor.rowcount, cursor.lastrowid, cursor.arraysize, cursor.row_factory)
    return door("sqlite_cursor"), (type(cursor), cursor.connection, *found)


def _build_cursor(
    loading: Any, kind: Any, connection: Any, columns: list[str] | None, rows: int, last: int | None, array_size: int, row_factory: Any
) -> Any:
    """Makes a cursor whose last statement left these columns, touched so many rows and had that row inserted last."""
    cursor = kind(connection)
    if last is not None:
        isolation, connection.isolation_level = connection.isolation_level, None
        ask = connection.cursor().execute
        ask("create table temp.dartvc (touched)")
        count = "with recursive n (i) as (select 1 union all select i + 1 from n where i < :rows) select :last + i, 1 from n limit :rows"
        ask(f"insert into temp.dartvc (rowid, touched) {count}", {"rows": max(rows, 0), "last": last})
        ask("insert into temp.dartvc (rowid) values (?)", (last,))
        if columns is not None:
            named = ", ".join('null as "{}"'.format(each.replace('"', '""')) for each in columns)
            cursor.execute(f"select {named} where 0").fetchall()
        elif rows >= 0:
            cursor.execute("delete from temp.dartvc where touched")
        else:
            cursor.execute("create table temp.dartvc_other (x)")
            ask("drop table temp.dartvc_other")
        ask("drop table temp.dartvc")
        connection.isolation_level = isolation
    cursor.arraysize, cursor.row_factory = array_size, row_factory
    return cursor


def _reduce_contextvar(variable: Any, saving: Any) -> Any:
    import contextvars

    missing = contextvars.Token.MISSING
    outside = getattr(saving.generators, "base_context", None)  # what is set inside a task belongs to the task's own context
    value = variable.get(missing) if outside is None else outside.get(variable, missing)
    default: Any = missing
    if f"<ContextVar name={variable.name!r} at" not in repr(variable):
        default = contextvars.Context().run(variable.get)
    arguments = (variable.name, () if default is missing else (default,), () if value is missing else (value,))
    return door("contextvar"), arguments


def _build_contextvar(loading: Any, name: str, default: tuple[Any, ...], value: tuple[Any, ...]) -> Any:
    import contextvars

    variable: Any = contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)
    if value:
        variable.set(value[0])
    return variable


def _reduce_local(local: Any, saving: Any) -> Any:
    return door("thread_local"), (type(local), dict(local.__dict__))


def _build_local(loading: Any, kind: type, attributes: dict[str, Any]) -> Any:
    local = kind()
    local.__dict__.update(attributes)
    return local


def _reduce_iterator(iterator: Any, saving: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return iterator.__reduce__()


def _reduce_itertools(kind: Any, saving: Any) -> Any:
    return _reduce_iterator(kind, saving)


def _reduce_pairwise(pairs: Any, saving: Any) -> Any:
    """Goes on from the last item that was paired, which stands before those to come."""
    source, *rest = [each for each in gc.get_referents(pairs) if each is not type(pairs)] or (iter(()),)
    if sys.version_info >= (3, 13) and rest:
        rest.pop()  # the tuple that it uses again
    return itertools.pairwise, (saving.keep(itertools.chain(tuple(rest[:1]), source)) if rest else source,)


def reduce_dict_subclass(mapping: Any, saving: Any) -> Any:
    """Takes a dict subclass apart by dict's own items, whatever its class says they are."""
    state = dict(mapping.__dict__) if getattr(mapping, "__dict__", None) else None
    return door("dict_subclass"), (type(mapping),), saving.keep((list(dict.items(mapping)), state)), None, None, door("dict_subclass_state")


def _set_dict_state(loading: Any, mapping: Any, state: tuple[list[tuple[Any, Any]], dict[str, Any] | None]) -> None:
    for key, value in state[0]:
        dict.__setitem__(mapping, key, value)
    if state[1]:
        mapping.__dict__.update(state[1])


def _never(reason: str, remedy: str = "") -> Callable[[Any, Any], Any]:
    def reduce(value: Any, saving: Any) -> Any:
        raise saving.refuse(value, reason, remedy)

    return reduce


def _set_state_of_names(loading: Any, value: Any, state: dict[Any, Any]) -> None:
    value.__setstate__(with_interned_keys(state))


def _set_plain_state(loading: Any, value: Any, state: Any) -> None:
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        vars(value).update(with_interned_keys(attributes))
    for name, part in (slots or {}).items():
        object.__setattr__(value, name, part)


def _reduce_generator(generator: Any, saving: Any) -> Any:
    if generator.gi_frame is None:
        return door("generator_over"), (generator.__name__, generator.__qualname__)
    if saving.generators is None:
        raise saving.refuse(generator, "a generator that is not over can only be stored in a session")
    try:
        if generator.gi_code.co_name == "<genexpr>":
            return reduce_expression(generator, saving)
        parts = saving.generators.take_apart(generator)
    except ValueError as error:
        raise saving.refuse(generator, str(error)) from None
    return door("generator"), saving.keep(parts)


def _build_generator(loading: Any, *parts: Any) -> Any:
    if loading.generators is None:
        raise loading.refuse("a generator can only be made again in a session")
    try:
        return loading.generators.make(loading.namespace, *parts)
    except ValueError as error:
        raise loading.refuse(str(error)) from None


def _build_generator_over(loading: Any, name: str, qualname: str) -> Any:
    over: Any = (each for each in list[object]())
    over.__name__, over.__qualname__ = sys.intern(name), sys.intern(qualname)
    over.close()
    return over


def _reduce_finalize(finalizer: Any, saving: Any) -> Any:
    details = finalizer.peek()
    if details is None:
        return door("dead_finalizer"), ()
    return door("finalizer"), details


def _dead_finalizer(loading: Any) -> Any:
    finalizer = weakref.finalize(threading.current_thread(), int)
    finalizer.detach()
    return finalizer


def _reduce_match(match: Any, saving: Any) -> Any:
    return door("match"), (match.re, match.string, match.pos, match.endpos, match.regs)


def _build_match(loading: Any, pattern: Any, text: Any, start: int, end: int, spans: Any) -> Any:
    """Matches again: the expression is tried in each way that can have led to these groups."""
    for method in (pattern.match, pattern.search, pattern.fullmatch):
        found = method(text, start, end)
        if found is not None and found.regs == spans:
            return found
    for found in pattern.finditer(text, start, end):
        if found.regs == spans:
            return found
    raise loading.refuse("the regular expression no longer matches what it matched")


_WORK_OF_THREADS = ("_target", "_args", "_kwargs")


def _reduce_thread(thread: Any, saving: Any) -> Any:
    """A thread that has ended is what it left behind."""
    if thread.ident is None or thread.is_alive():
        raise saving.refuse(thread, "a thread that has not ended cannot be stored", "join it first")
    made_anew = vars(threading.Thread(name="")).keys() - {*_WORK_OF_THREADS, "_ident", "_native_id"}
    state = {name: value for name, value in vars(thread).items() if name not in made_anew}
    return door("ended_thread"), (type(thread), thread.name, thread.daemon), saving.keep(state), None, None, door("plain_state")


def _build_thread(loading: Any, kind: Any, name: str, is_daemon: bool) -> Any:
    thread = kind.__new__(kind)
    threading.Thread.__init__(thread, name=name, daemon=is_daemon)
    thread.run = int  # it does nothing, and ends
    thread.start()
    thread.join()
    for each in ("run", *_WORK_OF_THREADS):
        del vars(thread)[each]
    return thread


def _reduce_type_variable(variable: Any, saving: Any) -> Any:
    """Pickle stores these as names to import, which the program's own module does not have yet."""
    home = variable.__module__
    if home not in ("__main__", saving.main_name) and getattr(sys.modules.get(home), variable.__name__, None) is variable:
        return NotImplemented
    given = (variable.__supertype__,) if hasattr(variable, "__supertype__") else getattr(variable, "__constraints__", ())
    found = {name: getattr(variable, f"__{name}__", None) for name in ("bound", "covariant", "contravariant", "infer_variance", "default")}
    named = {name: value for name, value in found.items() if value is not None and value is not False and type(value).__name__ != "NoDefaultType"}
    return door("type_variable"), (type(variable), home, variable.__name__, given, named)


def _build_type_variable(loading: Any, kind: Any, home: str, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    variable = kind(sys.intern(name), *given, **named)
    variable.__module__ = sys.intern(home)
    return variable


def _reduce_struct(layout: Any, saving: Any) -> Any:
    return type(layout), (layout.format,)


def _reduce_file_handler(handler: Any, saving: Any) -> Any:
    """A log handler keeps ``open`` for itself, which no stored state may call."""
    state = {name: value for name, value in vars(handler).items() if name != "_builtin_open"}
    return door("file_handler"), (type(handler),), saving.keep(state), None, None, door("file_handler_state")


def _set_file_handler_state(loading: Any, handler: Any, state: dict[str, Any]) -> None:
    vars(handler).update(state, _builtin_open=open)


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "_thread.lock": _reduce_lock,
    "_thread.RLock": _reduce_rlock,
    "weakref.ReferenceType": _reduce_weakref,
    "builtins.weakref": _reduce_weakref,
    "weakref.ProxyType": _reduce_proxy,
    "builtins.weakproxy": _reduce_proxy,
    "builtins.weakcallableproxy": _reduce_proxy,
    "weakref.WeakValueDictionary": _reduce_weak_values,
    "weakref.WeakKeyDictionary": _reduce_weak_keys,
    "_weakrefset.WeakSet": _reduce_weak_set,
    "weakref.finalize": _reduce_finalize,
    "logging.FileHandler": _reduce_file_handler,
    "re.Match": _reduce_match,
    "_struct.Struct": _reduce_struct,
    "sqlite3.Connection": _reduce_sqlite,
    "sqlite3.Cursor": _reduce_cursor,
    "_contextvars.ContextVar": _reduce_contextvar,
    "builtins.ContextVar": _reduce_contextvar,
    "_thread._local": _reduce_local,
    "builtins.generator": _reduce_generator,
    "builtins.frame": _never("a frame cannot be stored"),
    "builtins.traceback": _never("a traceback cannot be stored"),
    "builtins.PyCapsule": _never("a pointer of a C library cannot be stored"),
    "_socket.socket": _never("a socket belongs to this process"),
    "_ssl._SSLContext": _never("a TLS context belongs to this process"),
    "threading.Thread": _reduce_thread,
    "subprocess.Popen": _never("a child process cannot be stored"),
    "concurrent.futures._base.Future": _never("a future belongs to its pool"),
    "h5py._hl.files.File": _never("an open HDF5 file cannot be stored", "close it, or keep its path"),
    **dict.fromkeys(
        ("pandas.io.parsers.readers.TextFileReader", "pandas.io.json._json.JsonReader", "pandas.api.typing.JsonReader"),
        _never("a file that pandas reads in chunks is open", "commits are made again when it has been read"),
    ),
}
for _name in ("TypeVar", "ParamSpec", "TypeVarTuple", "NewType"):
    REDUCERS[f"typing.{_name}"] = _reduce_type_variable
for _name in ("tee", "_tee_dataobject", "count", "cycle", "repeat", "accumulate", "chain", "compress", "dropwhile", "islice", "starmap"):
    REDUCERS[f"itertools.{_name}"] = _reduce_itertools
for _name in (
    "takewhile",
    "zip_longest",
    "product",
    "permutations",
    "combinations",
    "combinations_with_replacement",
    "groupby",
):
    REDUCERS[f"itertools.{_name}"] = _reduce_itertools

REDUCERS["itertools.pairwise"] = _reduce_pairwise

BUILDERS: dict[str, Callable[..., Any]] = {
    "generator": _build_generator,
    "generator_over": _build_generator_over,
    "state_of_names": _set_state_of_names,
    "plain_state": _set_plain_state,
    "lock": lambda loading: threading.Lock(),
    "rlock": lambda loading: threading.RLock(),
    "weakref": lambda loading, value: weakref.ref(loading.hold(value)) if value is not None else _dead_reference(),
    "weakref_calling": lambda loading, value, callback: weakref.ref(loading.hold(value), callback),
    "weakref_proxy": lambda loading, value: weakref.proxy(loading.hold(value)),
    "weakref_proxy_calling": lambda loading, value, callback: weakref.proxy(loading.hold(value), callback),
    "weak_values": lambda loading, items: weakref.WeakValueDictionary(loading.hold(items)),
    "weak_keys": lambda loading, items: weakref.WeakKeyDictionary(dict(loading.hold(items))),
    "weak_set": lambda loading, items: weakref.WeakSet(loading.hold(items)),
    "finalizer": lambda loading, value, function, positional, named: weakref.finalize(
        loading.hold(value), function, *positional, **(named or {})
    ),
    "dead_finalizer": _dead_finalizer,
    "file_handler": lambda loading, kind: kind.__new__(kind),
    "file_handler_state": _set_file_handler_state,
    "match": _build_match,
    "sqlite": _build_sqlite,
    "sqlite_cursor": _build_cursor,
    "ended_thread": _build_thread,
    "type_variable": _build_type_variable,
    "contextvar": _build_contextvar,
    "thread_local": _build_local,
    "dict_subclass": lambda loading, kind: kind.__new__(kind),
    "dict_subclass_state": _set_dict_state,
}


def _dead_reference() -> Any:
    class Gone:
        pass

    return weakref.ref(Gone())


def _proxied(proxy: Any) -> Iterable[object]:
    try:
        return (proxy.__repr__.__self__, *gc.get_referents(proxy))
    except ReferenceError:
        return ()


def _weak_children(reference: Any) -> Iterable[object]:
    """What a weak reference leads to: its referent, and what it calls when that goes."""
    return (each for each in (reference(), reference.__callback__) if each is not None)


CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {
    "weakref.ReferenceType": _weak_children,
    "builtins.weakref": _weak_children,
    "weakref.ProxyType": _proxied,
    "weakref.CallableProxyType": _proxied,
    "builtins.weakproxy": _proxied,
    "builtins.weakcallableproxy": _proxied,
    "weakref.finalize": lambda finalizer: (finalizer.peek() or ()),
    "weakref.WeakValueDictionary": lambda mapping: list(mapping.values()),
    "weakref.WeakKeyDictionary": lambda mapping: [*mapping.keys(), *mapping.values()],
}
