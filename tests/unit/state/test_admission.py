"""Functions that no stored value may call at load: they come back as values, and nothing that loading does calls them."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import multiprocessing.pool
import operator
import os
import pickle
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from dartvc.state.loading import LiveBuffers, Loading, Unloadable, load
from dartvc.state.rebuild import door
from dartvc.state.saving import Refusal, Saving, save


def back(value: object) -> Any:
    saved = save({"x": value}, Saving({"__name__": "__main__"}, "__main__"))
    return load(saved.stream, Loading({"__name__": "__main__"}, LiveBuffers(saved.buffers)))["x"]


VALUES: dict[str, Any] = {
    "functions": [sys.exit, os.system, os.remove, shutil.move, open, eval, exec],
    "a class": subprocess.Popen,
    "a partial": functools.partial(open, encoding="utf-8"),
    "a map": map(os.path.getsize, ["a"]),
    "a map of a forbidden one": map(os.remove, ["a"]),
    "an iterator over functions": iter([os.remove, os.rename]),
    "a dict of commands": {"rm": os.remove, "append": open, ("rm", 1): collections.OrderedDict(x=os.rename)},
    "a default": collections.defaultdict(os.getpid, {1: 2}),
    "a deque of many": collections.deque([open] * 3000),
    "an exception": ValueError(open),
    "a chain": itertools.chain([os.remove], [1]),
    "a static method": staticmethod(open),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_forbidden_function_comes_back_as_a_value(name: str) -> None:
    found = back(VALUES[name])
    if isinstance(found, map | itertools.chain | type(iter([]))):
        assert type(found) is type(VALUES[name])
    elif isinstance(found, staticmethod | functools.partial | ValueError):
        assert getattr(found, "func", None) in (open, None) and type(found) is type(VALUES[name])
    else:
        assert found == VALUES[name] and repr(found) == repr(VALUES[name])


def test_what_the_program_defines_may_hold_one() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("class Loader:\n  opener = staticmethod(open)\n  def __init__(self): self.remove = __import__('os').remove\nx = Loader(); f = x.opener", names)
    values = {name: names[name] for name in ("Loader", "x")}
    saved = save(values, Saving(names, "__main__"))
    fresh: dict[str, Any] = load(saved.stream, Loading({"__name__": "__main__"}, LiveBuffers(saved.buffers)))
    assert fresh["x"].opener is open and fresh["x"].remove is os.remove and type(fresh["x"]) is fresh["Loader"]


def test_what_an_exit_stack_will_call_comes_back(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with contextlib.ExitStack() as stack:
        stack.callback(os.remove, str(tmp_path / "f"))
        with back(stack.pop_all()):
            assert (tmp_path / "f").exists()
        assert not (tmp_path / "f").exists()


class Call:
    """Pickles as a call, and as what is done to its result."""

    def __init__(self, *reduction: Any) -> None:
        self.reduction = reduction

    def __reduce_ex__(self, protocol: object) -> Any:
        return self.reduction

    def __call__(self) -> None:
        """Lets pickle take it for something to call."""


def traps(path: Path) -> dict[str, Any]:
    line = f"touch {path}"
    space = Call(types.SimpleNamespace, ())
    return {
        "a call": Call(os.system, (line,)),
        "a class": Call(subprocess.Popen, (["touch", str(path)],)),
        "evaluated text": Call(eval, (f"__import__('os').system({line!r})",)),
        "a partial that is called": Call(Call(functools.partial, (os.system, line)), ()),
        "a partial in a partial": Call(Call(functools.partial, (Call(functools.partial, (os.system,)), line)), ()),
        "a method's name": Call(Call(getattr, (os.system, "__call__")), (line,)),
        "a method's name of a partial": Call(Call(operator.attrgetter("__call__"), (Call(functools.partial, (os.system, line)),)), ()),
        "methodcaller": Call(Call(operator.methodcaller, ("__call__", line)), (os.system,)),
        "a map that is gone through": Call(list, (Call(map, (os.system, [line])),)),
        "a map that fills a deque": Call(collections.deque, (Call(map, (os.system, [line])),)),
        "a map in a list that is unpacked": Call(max, ([1], Call(map, (os.system, [line])))),
        "reduce": Call(functools.reduce, (os.system, [line, line])),
        "a key": Call(operator.itemgetter(line), (Call(collections.defaultdict, (Call(functools.partial, (os.system, line)),)),)),
        "a pool": Call(multiprocessing.pool.ThreadPool, (1, os.system, (line,))),
        "a setter of state": Call(types.SimpleNamespace, (), line, None, None, os.system),
        "a builder that calls": Call(door("thread_local"), (os.system, {})),
        "a builder that names": Call(door("type_variable"), (os.system, "m", line, (), {})),
        "a builder's method": Call(door("dict_view"), (Call(functools.partial, (os.system, line)), "__call__")),
        "an import by name": Call(Call(door("imported"), ("os", "system")), (line,)),
        "its own __setstate__": Call(door("state_of_names"), (Call(operator.itemgetter(0), ([space],), {"__setstate__": os.system}), line)),
        "by hand": Call(os.putenv, ("A", "B")),
    }


@pytest.mark.parametrize("name", traps(Path()))
def test_what_calls_a_forbidden_function_is_not_loaded(tmp_path: Path, name: str) -> None:
    stream = pickle.dumps({"before": [os.system], "x": traps(tmp_path / "SPRUNG")[name]}, 5) + bytes(4)
    with pytest.raises(Unloadable) as caught:
        load(stream, Loading({"__name__": "__main__"}, LiveBuffers([])))
    assert not (tmp_path / "SPRUNG").exists() and "loading it would" in caught.value.reason


def _text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


SPACE = _global("types", "SimpleNamespace") + b")R"
SYSTEM = _global("posix", "system")
STREAMS = {
    "an attribute that is called as __setstate__": SPACE + b"}" + _text("__setstate__") + SYSTEM + b"sb" + _text("true") + b"b",
    "an attribute that is called as append": SPACE + b"}" + _text("append") + SYSTEM + b"sb" + _text("true") + b"a",
    "a method that is exchanged": _global("types", "SimpleNamespace") + b"N}" + _text("x") + SYSTEM + b"s\x86b",
    "another name": _global("logging", "os.system") + _text("true") + b"\x85R",
    "a name of Python 2": b"\x80\x02c__builtin__\neval\n" + b"X\x01\x00\x00\x001\x85R",
    "a name that is computed": SYSTEM + b"0" + _text("posix") + _global("builtins", "str") + _text("system") + b"\x85R\x93" + _text("true") + b"\x85R",
    "a way to write it that we never use": b"(" + _text("true") + b"iposix\nsystem\n",
    "NEWOBJ": SYSTEM + _text("true") + b"\x85\x81",
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_written_to_call_a_forbidden_function_is_not_loaded(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unloadable):
        load(b"\x80\x05" + STREAMS[name] + b"." + bytes(4), Loading({}, LiveBuffers([])))


def test_what_could_not_be_loaded_is_not_stored() -> None:
    with pytest.raises(Refusal) as caught:
        save({"x": Call(functools.reduce, (os.system, ["true", "true"]))}, Saving({}, "__main__"))
    assert "posix.system to _functools.reduce" in caught.value.reason
