"""Pickling of one co-variable: the C pickler at full speed, with our reducers for what it lacks.

`save` returns the pickled stream and the large buffers beside it. The C pickler does the walk; `reducer_override` is asked only about
objects that are not plain containers or scalars, and answers from a table by type. Graphs too deep for the C stack go through the
Python pickler with the same reducers. Nothing is executed here but the objects' own ``__reduce_ex__`` and ``__getstate__``.
"""

from __future__ import annotations

import builtins
import copyreg
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FunctionType, GeneratorType
from typing import Any, Protocol, cast

from dartvc.host.collector import CollectorPaused
from dartvc.model.records import NamedTuple
from dartvc.state import adapters
from dartvc.state.adapters.guarded import runs_code_when_pickled
from dartvc.state.admission import Inadmissible, admit
from dartvc.state.chunking import unframe
from dartvc.state.forbidden import is_forbidden
from dartvc.state.rebuild import door
from dartvc.state.sets import TABLES, irregular
from dartvc.state.strings import STRINGS, find_interned

__all__ = [
    "IN_BAND_BYTES", "GeneratorCodec", "Reduction", "Refusal", "Saved", "Saving", "Sink", "StatePickler", "UserCodeMet", "note_identities", "save", "save_unshared",
]  # fmt: skip

Reduction = Any
"""What ``__reduce_ex__`` may return: a tuple of two to six items, the name of a global, or NotImplemented for pickle's own way."""

IN_BAND_BYTES = 64 * 1024
"""Buffers smaller than this stay inside the stream."""

DEEP_RECURSION_LIMIT = 1_000_000
DEEP_STACK_BYTES = 512 * 1024 * 1024


class GeneratorCodec(Protocol):
    """Knows suspended generators: what `dartvc.program` gives to a session's pickling."""

    def take_apart(self, generator: GeneratorType[Any, Any, Any]) -> tuple[Any, ...]:
        """Returns picklable parts; raises ValueError when it stands where it cannot be stored."""
        ...

    def take_apart_expression(self, generator: GeneratorType[Any, Any, Any]) -> tuple[object, dict[str, Any]]:
        """Returns (iterator, cells) of a generator expression; raises ValueError when it is more than that."""
        ...

    def take_apart_coroutine(self, coroutine: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Returns (place, cells, frame) of a coroutine; raises ValueError when it stands where it cannot be stored."""
        ...

    def shell(self, names: dict[str, object], place: Mapping[str, Any], cells: dict[str, Any]) -> Any:
        """Makes a coroutine for a place that holds nothing yet."""
        ...

    def fill(self, coroutine: Any, place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]) -> None:
        """Gives a coroutine what it held."""
        ...

    def make_awaited(self, names: dict[str, object], parts: tuple[Any, ...]) -> Any:
        """Makes a generator that a coroutine awaits."""
        ...

    def make(
        self, names: dict[str, object], place: Mapping[str, Any], values: dict[str, object], cells: dict[str, Any], stack: list[object]
    ) -> Any:
        """Makes a generator from its parts; raises ValueError when its code is not there."""
        ...


class Refusal(Exception):
    """An object says, or is known, not to be storable."""

    def __init__(self, reason: str, remedy: str = "", culprit: object = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.culprit = culprit


class Saved(NamedTuple):
    """The stored form of a co-variable, still in memory: ``buffers`` are views of the living objects' own memory.

    The stream ends with the number of buffers (4 bytes, little-endian, behind the pickle's STOP) that foreign reducers gave to
    pickle's ``buffer_callback``; they are the last of ``buffers`` and are handed to the unpickler in order.
    """

    stream: bytes
    buffers: tuple[memoryview, ...]
    global_names: frozenset[str]
    user_types: frozenset[type]
    notes: tuple[str, ...] = ()
    is_in_place: bool = True


class Unsettled(Exception):
    """Pickling has to begin again: an object that may have been pickled already was changed, or has to be known from the start."""


class UserCodeMet(Exception):
    """Pickling would run the user's code on an object that must stay as it is."""


class Saving:
    """What the reducers of one pickling share.

    Attributes:
        namespace: the living namespace; functions whose globals it is come back bound to the namespace of the restore.
        global_names: names that the functions met so far mention.
        buffers: out-of-band buffers by position.
        plain_code: gives for code that is watched what the user wrote.
        knows_builtins: the dict of the builtins is in the pickler's memo from the start, and the stream begins with what makes it.
        has_forbidden: a function that no stored value may call is among what was pickled as a name.
        spares_user_code: raise `UserCodeMet` instead of running a hook of the user's (``__reduce__``, ``__getstate__`` ...) on a living object.
    """

    def __init__(self, namespace: Mapping[str, object], main_name: str, verifier: Callable[[object], None] | None = None) -> None:
        self.namespace = namespace
        self.main_name = main_name
        self.verifier = verifier
        self.global_names: set[str] = set()
        self.function_cells: set[int] = set()
        self.whole_functions: set[int] = set()  # stored with what they hold
        self.bare_functions: set[int] = set()  # those that get it later: methods of a class that is made in steps
        self.user_types: set[type] = set()
        self.buffers: list[memoryview] = []
        self.foreign: list[memoryview] = []
        self.has_copies = False
        self.regions: dict[object, object] = {}
        self.kept: list[object] = []
        self.notes: list[str] = []
        self.caches: dict[int, object] = {}  # of functions that were met: what they hold, by identity
        self.emptied: frozenset[int] = frozenset()  # those whose contents cannot be stored; they come back empty
        self.generators: GeneratorCodec | None = None
        self.plain_code: Callable[[CodeType], CodeType] | None = None
        self.keeps_strings = False
        self.spares_user_code = False
        self.knows_builtins = False
        self.has_forbidden = False
        self.pickler: Any = None
        """While it pickles: its memo tells what it has met."""
        self._reducers: dict[type, adapters.Reducer | None] = {}

    def fresh(self) -> Saving:
        """Returns another one for the same namespace that has met nothing yet."""
        other = Saving(self.namespace, self.main_name, self.verifier)
        other.emptied = self.emptied
        other.generators = self.generators
        other.plain_code = self.plain_code
        other.keeps_strings = self.keeps_strings
        other.spares_user_code = self.spares_user_code
        other.knows_builtins = self.knows_builtins
        return other

    def reducer_of(self, kind: type) -> adapters.Reducer | None:
        """Returns the reducer of a class; those of the user's own classes are kept for this pickling only."""
        try:
            return self._reducers[kind]
        except KeyError:
            if self.spares_user_code and runs_code_when_pickled(kind):
                raise UserCodeMet from None
            reducer = self._reducers[kind] = adapters.find_reducer(kind, self.main_name, self.user_types)
            return reducer

    def out_of_band(self, buffer: memoryview, *, is_copy: bool = False) -> int:
        """Registers a large contiguous buffer and returns its position; ``is_copy`` tells that it is not the object's own memory."""
        self.has_copies = self.has_copies or is_copy
        self.buffers.append(buffer.cast("B") if buffer.ndim != 1 or buffer.format != "B" else buffer)
        return len(self.buffers) - 1

    def begin_again(self) -> Unsettled:
        """Returns what to raise when an object was changed (flushed) by being pickled."""
        return Unsettled()

    def meet_builtins(self) -> Unsettled:
        """Returns what to raise when the dict of the builtins is met: it is written as what makes it, which must stand first."""
        self.knows_builtins = True
        return Unsettled()

    def by_name(self, definition: Any) -> Any:
        """Leaves a function or class to pickle, which stores its name."""
        module, name = definition.__module__, definition.__qualname__
        if isinstance(module, str) and is_forbidden(module, name.split(".")[0]):
            self.has_forbidden = True
        return NotImplemented

    def keep(self, value: object) -> Any:
        """Keeps a temporary alive until the pickling ends, so that its id is not used again under the pickler's memo."""
        self.kept.append(value)
        return value

    def refuse(self, culprit: object, reason: str, remedy: str = "") -> Refusal:
        """Returns the verdict that ``culprit`` cannot be stored."""
        return Refusal(reason, remedy, culprit)

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Answers pickle's ``buffer_callback``: true keeps the buffer in the stream."""
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < IN_BAND_BYTES:
            return True
        self.foreign.append(raw)
        return False


class Sink:
    """Takes what a pickler writes, frame by frame, without a copy."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.write = self.pieces.append


class StatePickler(pickle.Pickler):
    """Pickle's own, with our reducers.

    Args:
        sink: takes the stream.
        saving: what the reducers share.
    """

    def __init__(self, sink: Sink, saving: Saving) -> None:
        super().__init__(cast(Any, sink), 5, buffer_callback=cast(Any, saving.take_buffer))
        self.saving = saving
        self.reducers = adapters.reducers_by_type() if not saving.spares_user_code else {}
        self.plain: set[type] = set()

    def reducer_override(self, obj: Any) -> Reduction:
        """Returns how to take an object apart."""
        kind = type(obj)
        if kind in self.plain:  # most objects, of few classes
            return NotImplemented
        try:
            reducer = self.reducers[kind]
        except KeyError:
            reducer = self.saving.reducer_of(kind)
        if reducer is not None:
            return reducer(obj, self.saving)
        if issubclass(kind, type):
            return NotImplemented
        reduction = reduce_plainly(obj, self.saving)
        if reduction is NotImplemented and not hasattr(kind, "__setstate__"):
            self.plain.add(kind)
        return reduction


def reduce_plainly(value: Any, saving: Saving) -> Reduction:
    """Returns how to take an object apart that no reducer knows; NotImplemented for pickle's own way."""
    kind = type(value)
    if hasattr(kind, "__setstate__"):
        return _with_interned_names(value, saving) if saving.keeps_strings else NotImplemented
    return _with_plain_state(value, saving) if hasattr(kind, "__getattr__") else NotImplemented


def _with_interned_names(value: Any, saving: Saving) -> Reduction:
    """Lets the attribute names be interned before the object's own ``__setstate__`` puts them into its class's shared keys."""
    reduction = value.__reduce_ex__(5)
    if not isinstance(reduction, tuple) or len(reduction) < 3 or type(reduction[2]) is not dict or reduction[5:6] not in ((), (None,)):
        return saving.keep(reduction)
    full = (*reduction, None, None, None)[:5]
    return saving.keep((*full, door("state_of_names")))


def _with_plain_state(value: Any, saving: Saving) -> Reduction:
    """Names the way to set the state, which the loader would otherwise look for on an object that is still empty.

    A ``__getattr__`` that hands on to an attribute (a proxy, a wrapper) would never come to an end there.
    """
    reduction = value.__reduce_ex__(5)
    if not isinstance(reduction, tuple) or len(reduction) < 3 or not isinstance(reduction[2], dict | tuple) or reduction[5:6] not in ((), (None,)):
        return saving.keep(reduction)
    full = (*reduction, None, None, None)[:5]
    return saving.keep((*full, door("plain_state")))


_PurePickler: Any = pickle._Pickler


class _DeepPickler(_PurePickler):  # type: ignore[misc]
    def __init__(self, sink: Sink, saving: Saving) -> None:
        super().__init__(cast(Any, sink), 5, buffer_callback=saving.take_buffer)
        self.saving = saving
        self.reducers = adapters.reducers_by_type() if not saving.spares_user_code else {}
        self.plain: set[type] = set()

    reducer_override = StatePickler.reducer_override

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Saves one object as `pickle._Pickler.save` does, but calls only plain Python functions.

        The original passes reductions as ``self.save_reduce(obj=obj, *rv)``, which CPython 3.12 and 3.13 run through C, where the depth
        is limited whatever `sys.setrecursionlimit` says.
        """
        self.framer.commit_frame()
        known = self.memo.get(id(obj))
        if known is not None:
            self.write(self.get(known[0]))
            return
        kind = type(obj)
        reduction: Any = NotImplemented
        special = self.dispatch.get(kind)
        if special is None or kind in (FunctionType, type):
            reduction = self.reducer_override(obj)
        if reduction is NotImplemented:
            if special is not None:
                special(self, obj)
                return
            if issubclass(kind, type):
                self.save_global(obj)
                return
            copied = copyreg.dispatch_table.get(kind)
            reduction = copied(obj) if copied is not None else obj.__reduce_ex__(self.proto)
        if isinstance(reduction, str):
            self.save_global(obj, reduction)
            return
        function, arguments, state, items, pairs, setter = (*reduction, None, None, None, None)[:6]
        _PurePickler.save_reduce(self, function, arguments, state, items, pairs, setter, obj=obj)


def save(value: object, saving: Saving) -> Saved:
    """Pickles ``value``; what functions have cached stays away where it cannot be stored.

    Raises:
        Refusal: something inside cannot be stored; the reason says what.
    """
    try:
        return _save_all(value, saving)
    except Refusal:
        fewer = _with_fewer_caches(saving)
        if fewer is None:
            raise
    return save(value, fewer)


def _with_fewer_caches(saving: Saving) -> Saving | None:
    """Returns how to pickle without the caches whose contents cannot be stored by themselves, None when there are none of these."""
    bad = set()
    for key, contents in saving.caches.items():
        trial = saving.fresh()
        trial.emptied = saving.emptied.union(saving.caches)
        try:
            save(contents, trial)
        except Refusal:
            bad.add(key)
    if not bad:
        return None
    fewer = saving.fresh()
    fewer.emptied = saving.emptied | bad
    return fewer


def _save_all(value: object, saving: Saving) -> Saved:
    try:
        with CollectorPaused():
            return _save(value, saving)
    except (Refusal, UserCodeMet):
        raise
    except Unsettled:
        return save(value, saving.fresh())
    except RecursionError:
        with CollectorPaused():
            return _save_deep(value, saving)
    except MemoryError as error:
        raise Refusal("not enough memory to copy it") from error
    except Exception as error:
        raise Refusal(_reason_of(error)) from error
    finally:
        saving.pickler = None


def save_unshared(value: object, saving: Saving) -> Saved:
    """Pickles ``value`` with everything written out as often as it is met: equal values give equal streams, whichever of their parts
    (strings, tuples) are one object and which are two.

    Raises:
        Refusal: something inside cannot be stored, or holds itself.
    """
    sink = Sink()
    pickler = StatePickler(sink, saving)
    pickler.fast = True
    if saving.knows_builtins:
        pickler.memo = _memo_of_builtins()
    try:
        pickler.dump(value)
    except Unsettled:
        return save_unshared(value, saving.fresh())
    except Exception as error:
        raise Refusal(_reason_of(error)) from error
    return _saved(sink, saving)


def note_identities(values: dict[str, object], outside: Iterable[object], *, with_sets: bool = True) -> None:
    """Adds to values that are about to be pickled what pickle does not keep, and what the program's files show: which of their strings were
    interned, and how sets lie in memory. `dartvc.state.loading.load` makes it so again.

    Args:
        values: by name.
        outside: what is not entered (namespaces).
        with_sets: whether sets are described.
    """
    strings, found = find_interned(list(values.values()), (*outside, values))
    if strings:
        values[STRINGS] = strings
    tables = irregular(found) if with_sets else None
    if tables is not None:
        values[TABLES] = tables


def _reason_of(error: BaseException) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return f"{type(error).__name__}: {text}"[:240] if text else type(error).__name__


def _save(value: object, saving: Saving) -> Saved:
    sink = Sink()
    pickler = saving.pickler = StatePickler(sink, saving)
    if saving.knows_builtins:
        pickler.memo = _memo_of_builtins()
    pickler.dump(value)
    return _saved(sink, saving)


_PROTO = b"\x80\x05"
_MAKING_BUILTINS = b"cdartvc.state.rebuild\nbuiltins_dict\n)R\x940"  # GLOBAL, EMPTY_TUPLE, REDUCE, MEMOIZE (as 0), POP


def _memo_of_builtins() -> Any:
    names = vars(builtins)
    return {id(names): (0, names)}


def _saved(sink: Sink, saving: Saving) -> Saved:
    """Makes one stream of what was pickled; the number of foreign buffers stands behind it.

    Raises:
        Refusal: it could not be loaded, for it would call what no stored value may call.
    """
    stream = unframe(sink.pieces, len(saving.foreign).to_bytes(4, "little"))
    if saving.has_forbidden:
        try:
            admit(stream)
        except Inadmissible as error:
            raise Refusal(str(error)) from error
    if saving.knows_builtins:
        stream = _PROTO + _MAKING_BUILTINS + stream[len(_PROTO) :]
    return Saved(
        stream,
        (*saving.buffers, *saving.foreign),
        frozenset(saving.global_names),
        frozenset(saving.user_types),
        tuple(saving.notes),
        not (saving.has_copies or saving.foreign),
    )


def _save_deep(value: object, saving: Saving) -> Saved:
    """Pickles a graph too deep for the C pickler: Python calls of Python code do not use the C stack (since CPython 3.11)."""
    fresh = saving.fresh()
    fresh.caches = saving.caches
    outcome: list[object] = []

    def work() -> None:
        sink = Sink()
        try:
            pickler = fresh.pickler = _DeepPickler(sink, fresh)
            if fresh.knows_builtins:
                pickler.memo = _memo_of_builtins()
            pickler.dump(value)
            outcome.append(_saved(sink, fresh))
        except Exception as error:
            outcome.append(error)
        finally:
            fresh.pickler = None

    limit, stack = sys.getrecursionlimit(), threading.stack_size(DEEP_STACK_BYTES)
    try:
        sys.setrecursionlimit(max(limit, DEEP_RECURSION_LIMIT))
        thread = threading.Thread(target=work, name="dartvc-deep-pickle")
        thread.start()
        thread.join()
    finally:
        threading.stack_size(stack)
        sys.setrecursionlimit(limit)
    result = outcome[0]
    if isinstance(result, Refusal | UserCodeMet):
        raise result
    if isinstance(result, Unsettled):
        return save(value, fresh.fresh())
    if isinstance(result, Exception):
        raise Refusal(_reason_of(result)) from result
    return cast(Saved, result)
