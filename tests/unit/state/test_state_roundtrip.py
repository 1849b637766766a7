"""What a co-variable's pickle brings back: functions, classes, aliases, views, resources."""

from __future__ import annotations

import random
import struct
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartvc.porcelain.likeness import without_identities
from dartvc.state.loading import LiveBuffers, Loading, Unloadable, load
from dartvc.state.saving import Refusal, Saving, save
from dartvc.state.strings import find_interned


def run(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "<test>", "exec"), namespace)
    return namespace


def through(namespace: dict[str, Any]) -> dict[str, Any]:
    """Stores all names of a namespace as one co-variable and loads them into a fresh one."""
    names = {name: value for name, value in namespace.items() if not name.startswith("__")}
    saved = save(names, Saving(namespace, "__main__"))
    fresh: dict[str, Any] = {"__name__": "__main__"}
    copies = [memoryview(bytes(buffer)) for buffer in saved.buffers]
    fresh.update(load(saved.stream, Loading(fresh, LiveBuffers(copies))))
    return fresh


CASES = {
    "a function is bound to the living namespace": ("def f(): return g()\ndef g(): return 5", "f() == 5 and f.__globals__ is namespace"),
    "two closures share one cell": (
        "def make():\n  n = 0\n  def inc():\n    nonlocal n; n += 1\n  def get(): return n\n  return inc, get\ninc, get = make(); inc()",
        "get() == 1 and (inc() or get() == 2)",
    ),
    "a recursive local function": (
        "def make():\n  def fact(n): return 1 if n < 2 else n * fact(n - 1)\n  return fact\nf = make()",
        "f(5) == 120",
    ),
    "defaults, keyword defaults, attributes and docstring": (
        "def f(a, b=[1], *, k=2):\n  'doc'\n  return a + b[0] + k\nf.tag = 'x'",
        "f(1) == 4 and f.tag == 'x' and f.__doc__ == 'doc'",
    ),
    "a class and its instance stay one class": ("class A:\n  k = [1]\n  def m(self): return self.v\na = A(); a.v = 3", "type(a) is A and a.m() == 3"),
    "super and the method resolution order": (
        "class A:\n  def f(self): return 'A'\nclass B(A):\n  def f(self): return 'B' + super().f()\nb = B()",
        "b.f() == 'BA'",
    ),
    "an enum member is a member": ("import enum\nclass E(enum.Enum):\n  X = 1\n  Y = 2\n  def up(self): return self.value + 1\ne = E.X", "e is E.X and e.up() == 2"),
    "a frozen dataclass with slots": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass P:\n  a: int = 1\np = P(2)",
        "p == P(2) and hash(p) == hash(P(2))",
    ),
    "a property, a class method and a static method": (
        "class A:\n  @property\n  def p(self): return 1\n  @classmethod\n  def c(cls): return cls\n  @staticmethod\n  def s(x): return x\na = A()",
        "a.p == 1 and a.c() is A and A.s(2) == 2",
    ),
    "an abstract class and what was registered": (
        "import abc\nclass A(abc.ABC):\n  @abc.abstractmethod\n  def f(self): ...\nA.register(int)\nclass B(A):\n  def f(self): return 1\nb = B()",
        "isinstance(3, A) and isinstance(b, A)",
    ),
    "a cached function": ("import functools\n@functools.lru_cache(7)\ndef f(x): return x + 1", "f(1) == 2 and f.cache_parameters()['maxsize'] == 7"),
    "what functions have cached": (
        "import functools\nran = []\nclass S:\n  @classmethod\n  @functools.lru_cache\n  def one(cls): ran.append(cls); return cls()\n"
        "  @functools.lru_cache(typed=True)\n  def m(self, x, *, k=1): ran.append(x); return [self, x, k]\n"
        "  def __hash__(self): return hash(self.name)\n  def __eq__(self, other): return self.name == other.name\n  def __init__(self): self.name = 'n'\n"
        "s = S.one(); r = [s.m(1), s.m(1.0), s.m(1, k=2), s.m(1.0, k=True)]",
        "S.one() is s and all(a is b for a, b in zip(r, [s.m(1), s.m(1.0), s.m(1, k=2), s.m(1.0, k=True)])) and len(ran) == 5",
    ),
    "the order and the counts of a cache": (
        "import functools\n@functools.lru_cache(3)\ndef f(x, y=0):\n  if x == 9: raise ValueError\n  ran.append(x); return (x, y)\nran = []\n"
        "for i in (0, 1, 2, 3, 2, 1): f(i)\nf('a', y=2)\nfor i in range(2):\n  try: f(9)\n  except ValueError: pass\nbefore = f.cache_info(); ran.clear()",
        "f.cache_info() == before and f(1) and f('a', y=2) == ('a', 2) and f(2) and not ran and f(7) and f(2) and ran == [7] and f(1) and ran == [7, 1]",
    ),
    "a cache around a variable": (
        "import functools\ndef make(n):\n  @functools.cache\n  def f(x): return f(x - 1) + [n] if x else []\n  return f\nf = make(5); four = f(4)",
        "f(4) is four and f(5) == [5] * 5 and f.cache_info() == (2, 6, None, 6)",
    ),
    "a cache of something that is no function of Python": ("import functools\nf = functools.lru_cache(abs); f(-1)", "f(-2) == 2"),
    "a cache of what cannot be stored is empty, others are not": (
        "import functools, threading\nclass C:\n  def __init__(self): self.k = threading.Lock(); self.k.acquire()\n"
        "@functools.cache\ndef f(): return C()\n@functools.cache\ndef g(): return [f.cache_info()]\nf(); h = g()",
        "g() is h and f.cache_info().currsize == 0 and type(f()) is C",
    ),
    "aliases across containers": ("x = [1]; d = {'x': x}; t = (x, d)", "d['x'] is x and t[0] is x and t[1] is d"),
    "a cycle through a tuple": ("l = []; t = (l,); l.append(t)", "t[0] is l and l[0] is t"),
    "views of a dict follow it": ("d = {'a': 1}; k = d.keys()", "(d.update(b=2) or 'b' in k)"),
    "an iterator half used": ("l = [1, 2, 3]; it = iter(l); next(it)", "l.append(4) or list(it) == [2, 3, 4]"),
    "an unlocked lock": ("import threading\nk = threading.Lock()", "k.acquire(False)"),
    "a weak reference": ("import weakref\nclass A: pass\na = A(); w = weakref.ref(a)", "w() is a"),
    "a weak reference still calls when its object goes": (
        "import weakref\nclass A: pass\na = A(); gone = []; w = weakref.ref(a, gone.append); p = weakref.proxy(a, gone.append)",
        "w.__callback__ == gone.append and (namespace.pop('a') and None or len(gone) == 2)",
    ),
    "a weak reference that calls its own keeper": (
        "import weakref\nclass A: pass\nclass K:\n  def __init__(self, a): self.n = 0; self.w = weakref.ref(a, self.gone)\n"
        "  def gone(self, w): self.n += w is self.w\na = A(); w = K(a).w; k = w.__callback__.__self__",
        "k.w is w and (namespace.pop('a') and None or k.n == 1)",
    ),
    "a read-only view of a bytearray": ("b = bytearray(b'abc'); m = memoryview(b).toreadonly()[1:]", "m.readonly and (b.__setitem__(1, 65) or m[0] == 65)"),
    "a view of an array": (
        "import array\na = array.array('d', range(6)); m = memoryview(a)[4:1:-2]; n = memoryview(a).cast('B').cast('i', (2, 6))",
        "m.tolist() == [4, 2] and n.shape == (2, 6) and (a.__setitem__(4, 9) or m[0] == 9) and n.format == 'i'",
    ),
    "a memoryview shares its bytearray": ("b = bytearray(b'abc'); m = memoryview(b)[1:]", "(b.__setitem__(1, 65) or m[0] == 65)"),
    "a dict subclass that lies about its items": (
        "class D(dict):\n  def items(self): return []\nd = D(a=1)",
        "dict.__getitem__(d, 'a') == 1 and type(d) is D",
    ),
    "a chain of 20,000 objects": (
        "class N: pass\nh = N(); h.v = 0; c = h\nfor i in range(1, 20000):\n  c.n = N(); c = c.n; c.v = i\ndel c",
        "h.n.n.v == 2",
    ),
    "a function of an exec keeps the globals of that exec": (
        "ns = {}\nexec('K = 1\\ndef f(): return K\\ndef g(): return len(\\'ab\\') + f()', ns)\nf = ns['f']; g = ns['g']",
        "f.__globals__ is ns and ns['f'] is f and g() == 3 and (ns.update(K=7) or f() == 7) and ns['__builtins__'] is vars(__import__('builtins'))",
    ),
    "a function whose exec's globals nobody else holds": (
        "def make():\n  ns = {}\n  exec('def f(): return len(K)\\nK = [1]', ns)\n  return ns['f']\nf = make()",
        "f() == 1",
    ),
    "a deep chain beside an exec's globals": (
        "class N: pass\nh = N(); c = h\nfor i in range(20000):\n  c.n = N(); c = c.n\nc.ns = {}; exec('def f(): return f', c.ns); f = c.ns['f']\ndel c",
        "f() is f and 'len' in f.__globals__['__builtins__']",
    ),
    "an in-memory database": (
        "import sqlite3\nc = sqlite3.connect(':memory:'); c.execute('create table t (a)'); c.execute('insert into t values (5)'); c.commit()",
        "c.execute('select a from t').fetchone() == (5,)",
    ),
    "a cursor without rows to come": (
        "import sqlite3\nc = sqlite3.connect(':memory:'); r, s, t, u, v = (c.cursor() for i in range(5)); s.execute('create table t (a, b)')\n"
        "t.execute('insert into t values (1, 2), (3, 4)'); u.execute('insert into t values (5, 6)'); v.execute('select a, b as \"x y\" from t').fetchall()\n"
        "c.commit(); told = lambda: [(k.description, k.rowcount, k.lastrowid, k.connection is c) for k in (r, s, t, u, v)]; before = told()",
        "told() == before and v.execute('select count(*) from t').fetchone() == (3,) and c.execute('select * from sqlite_temp_master').fetchall() == []",
    ),
    "a thread that has ended": (
        "import threading\nclass T(threading.Thread):\n  def run(self): self.sum = ran.append(1) or 5\nran = []\n"
        "p = T(name='p', daemon=True); q = threading.Thread(target=len, args=('',)); p.start(); p.join(); q.start(); q.join(); i = p.ident",
        "p.sum == 5 and ran == [1] and type(p) is T and p.daemon and p.name == 'p' and p.ident == i and not q.is_alive() and q.join() is None",
    ),
    "type variables and the generic classes that have them": (
        "import typing\nT = typing.TypeVar('T', bound='S', covariant=True); V = typing.TypeVar('V', int, str); P = typing.ParamSpec('P'); U = typing.NewType('U', int)\n"
        "class S(typing.Generic[T, V]):\n  def m(self, x: T) -> V: ...\nclass R(S[T, int]): pass",
        "S.__parameters__ == (T, V) and R.__parameters__ == (T,) and V.__constraints__ == (int, str) and T.__covariant__ and P.__name__ == 'P'"
        " and T.__module__ == U.__module__ == '__main__' and U.__supertype__ is int and T.__bound__.__forward_arg__ == 'S' and S[int, str].__args__ == (int, str)",
    ),
    "an abstract class's subclass that keeps its one instance": (
        "import abc\nclass B(abc.ABC):\n  @abc.abstractmethod\n  def run(self): ...\nclass S(B):\n  one = None\n  def run(self): return 1\nS.one = s = S()",
        "S.one is s and s.run() == 1 and [key for key in vars(S) if key[0] != '_'] == ['one', 'run']",
    ),
    "objects whose class makes, counts and refuses them itself": (
        "class S:\n  one = None\n  def __new__(cls):\n    if cls.one is None: cls.one = super().__new__(cls); cls.one.tag = 'made'\n    return cls.one\n"
        "s = S(); s.tag = 'kept'\n"
        "class K(float):\n  count = 0\n  def __new__(cls, value, unit):\n    cls.count += 1; self = super().__new__(cls, value); self.unit = unit; return self\n"
        "k = K(2, 'm')\n"
        "class T(tuple):\n  def __new__(cls, a, b): return super().__new__(cls, (a, b))\n  def __getattr__(self, name): return self.nothing[name]\n"
        "t = T(1, [2]); t.x = t\n"
        "class N:\n  def __new__(cls, *given): raise TypeError('use make')\n  @classmethod\n  def make(cls): return object.__new__(cls)\nn = N.make()",
        "S() is s is S.one and s.tag == 'kept' and (k, k.unit, K.count) == (2, 'm', 1) and t == (1, [2]) and t.x is t and type(t) is T and type(n) is N",
    ),
    "a class that keeps its instances, which keep their methods": (
        "class M(type): pass\nclass P(metaclass=M): pass\nclass T:\n  made = []\n  def __init__(self): self.p = P(); self.hook = self.spy; T.made.append(self)\n"
        "  def spy(self): return self\n  seen = property(lambda self: self.hook())\nt = T()",
        "T.made == [t] and t.hook() is t and t.seen is t and type(t.p) is P and type(P) is M",
    ),
    "a class that reaches its instances through what its methods hold": (
        "import abc, functools\ndef make():\n  all = []\n  def counted(f):\n    @functools.wraps(f)\n"
        "    def g(self, *given): all.append(self.twice); return f(self, *given)\n"
        "    return g\n  class B(abc.ABC):\n    @abc.abstractmethod\n    def run(self): ...\n  class W(B):\n    @counted\n"
        "    def run(self, default=all): return len(default)\n"
        "    @functools.lru_cache\n    def twice(self): return 2 * len(all)\n    @classmethod\n    def reset(cls): all.clear(); return super().__name__\n"
        "    def __hash__(self): return super().__hash__()\n"
        "  return W()\nw = make(); w.run(); w.keep = {w}; hook = w.run; W = type(w)",
        "w.run() == 2 and hook.__self__ is w and w.run.__wrapped__(w) == 2 and w.twice() == 4 and w in w.keep and (W.run.__wrapped__.__defaults__[0][0].__self__ is w)",
    ),
    "a metaclass that keeps its classes and their instances": (
        "class M(type):\n  made = {}\n  def __call__(cls, *given):\n    one = super().__call__(*given); M.made.setdefault(cls, []).append(one); return one\n"
        "class A(metaclass=M):\n  def __init__(self): self.do = self.act\n  def act(self): return 7\nclass B(A): pass\na, b = A(), B()",
        "M.made == {A: [a], B: [b]} and a.do() == b.do() == 7 and type(B()) is B and len(M.made[B]) == 2",
    ),
    "classes of C that are found under another name than their own": (
        "from types import *\nimport contextvars, types\nfrom _collections_abc import dict_keys, list_iterator\n"
        "k = {name: getattr(types, name) for name in types.__all__}\n"
        "t = contextvars.Token; c = contextvars.Context",
        "all(v is getattr(__import__('types'), n) for n, v in k.items())"
        " and dict_keys is type({}.keys()) and list_iterator is type(iter([])) and t is __import__('contextvars').Token",
    ),
    "a generator that is over": (
        "def g(): yield 1\na = g(); b = (i for i in ()); list(a), list(b)",
        "list(a) == list(b) == [] and a.gi_frame is None and (a.__qualname__, b.__name__) == ('g', '<genexpr>')",
    ),
}  # fmt: skip


@pytest.mark.parametrize("claim", CASES)
def test_comes_back(claim: str) -> None:
    code, check = CASES[claim]
    fresh = through(run(code))
    fresh["namespace"] = fresh
    assert eval(check, fresh)


REFUSED = {
    "a class of C without a name": ("import sys\nk = type(sys.flags)", "the class sys.flags of a C library is in no module"),
    "a running generator": ("g = (i for i in range(3))", "generator"),
    "a held lock": ("import threading\nk = threading.Lock(); k.acquire()", "held"),
    "a view of a mapped file": ("import mmap\nm = memoryview(mmap.mmap(-1, 10))", "mmap"),
    "a view of memory of a C library": (
        "import ctypes\nf = ctypes.pythonapi.PyMemoryView_FromMemory; f.restype = ctypes.py_object\n"
        "m = f(ctypes.c_char_p(b'abcd'), ctypes.c_ssize_t(4), 0x100); del f",
        "C library",
    ),
    "a released view": ("m = memoryview(b'a'); m.release()", "released"),
    "a thread that was not started": ("import threading\nt = threading.Thread(target=int)", "thread"),
    "a cursor with rows to come": (
        "import sqlite3\nc = sqlite3.connect(':memory:'); k = c.execute('select 1 union select 2'); k.fetchone()",
        "not fetched",
    ),
    "an object that raises": ("class A:\n  def __reduce_ex__(self, p): raise RuntimeError('no')\na = A()", "RuntimeError"),
    "an object whose loading would run a command": (
        "import os\nclass A:\n  def __reduce__(self): return (os.system, ('true',))\na = A()",
        "would call posix.system",
    ),
    "an object that ends the process": ("import os\nclass A:\n  def __reduce__(self): os._exit(3)\na = A()", "ended the process"),
}


@pytest.mark.parametrize("claim", REFUSED)
def test_is_refused_with_a_reason(claim: str) -> None:
    code, reason = REFUSED[claim]
    with pytest.raises(Refusal) as caught:
        through(run(code))
    assert reason in caught.value.reason


@given(data=st.data())
def test_a_memoryview_comes_back_whatever_was_done_to_it(data: st.DataObject) -> None:
    memory = bytearray(data.draw(st.sampled_from([0, 1, 24, 60])))
    view: Any = memoryview(memory)
    for act in data.draw(st.lists(st.sampled_from(["slice", "cast", "read-only"]), max_size=5)):
        if act == "read-only":
            view = view.toreadonly()
        elif act == "slice" and view.ndim:
            view = view[data.draw(st.slices(len(view)))]
        elif act == "cast" and view.c_contiguous and view.nbytes:
            view = view.cast("B")
            formats = [each for each in "bhid" if view.nbytes % struct.calcsize(each) == 0]
            format = data.draw(st.sampled_from(formats))
            count = view.nbytes // struct.calcsize(format)
            rows = data.draw(st.sampled_from([each for each in range(1, count + 1) if count % each == 0]))
            view = view.cast(format, () if count == 1 and data.draw(st.booleans()) else (rows, count // rows))
    fresh = through({"memory": memory, "view": view})
    fresh["memory"][:] = memory[:] = random.Random(1).randbytes(len(memory))
    made = fresh["view"]
    assert (made.format, made.shape, made.readonly, made.tobytes()) == (view.format, view.shape, view.readonly, view.tobytes())


def test_a_view_stored_before_its_shape_was_is_still_read() -> None:
    from dartvc.state.adapters import BUILDERS

    assert BUILDERS["memoryview"](None, bytearray(range(16)), 8, 8, "i").tolist() == [0x0B0A0908, 0x0F0E0D0C]


def test_a_file_comes_back_at_its_position(tmp_path: Any) -> None:
    (tmp_path / "f.txt").write_text("one\ntwo\n")
    namespace = run(f"f = open({str(tmp_path / 'f.txt')!r}); f.readline()")
    assert through(namespace)["f"].read() == "two\n"


def test_code_of_another_python_is_refused_by_name() -> None:
    from dartvc.state.definitions import BUILDERS

    loading = Loading({}, LiveBuffers([]))
    with pytest.raises(Unloadable) as caught:
        BUILDERS["code"](loading, b"", 0x030A, "<cell>", "")
    assert "Python 3.10" in caught.value.reason
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in caught.value.reason


def test_a_stored_value_cannot_name_a_forbidden_function() -> None:
    stream = b"\x80\x05\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R." + bytes(4)
    with pytest.raises(Unloadable) as caught:
        load(stream, Loading({}, LiveBuffers([])))
    assert "posix.system" in caught.value.reason


def test_what_a_shell_puts_into_the_builtins_is_no_part_of_an_exec_s_globals() -> None:
    import builtins

    class Shell:
        def __reduce_ex__(self, protocol: object) -> Any:
            raise RuntimeError("the shell is not the program's")

    vars(builtins)["shell_of_a_test"] = Shell()
    try:
        fresh = through(run("ns = {}; exec('def f(): return 1', ns); module = {'__builtins__': __import__('builtins')}"))
    finally:
        del vars(builtins)["shell_of_a_test"]
    assert fresh["ns"]["f"]() == 1
    assert fresh["module"]["__builtins__"] is builtins


def test_saving_leaves_threads_and_the_recursion_limit_as_they_were() -> None:
    before = (sys.getrecursionlimit(), threading.stack_size())
    through(run(CASES["a chain of 20,000 objects"][0]))
    assert (sys.getrecursionlimit(), threading.stack_size()) == before


def test_a_class_that_came_back_in_steps_is_stored_as_it_was() -> None:
    first = run(CASES["a class that keeps its instances, which keep their methods"][0])
    second = through(first)
    streams = [save({name: each[name] for name in "Tt"}, Saving(each, "__main__")).stream for each in (first, second)]
    assert without_identities(streams[0]) == without_identities(streams[1])


def test_a_generic_class_that_came_back_is_stored_as_it_was() -> None:
    code = "import typing\nclass S(typing.Generic[typing.AnyStr]):\n  def f(self): ...\nclass R(S):\n  x = 1\nclass P(typing.Protocol):\n  def m(self): ..."
    first = run(code)
    second = through(first)
    streams = [save({name: each[name] for name in "SRP"}, Saving(each, "__main__")).stream for each in (first, second)]
    assert without_identities(streams[0]) == without_identities(streams[1])


def test_keys_of_dicts_are_noted_where_they_are_interned_and_those_of_attributes_never() -> None:
    code = "class A: pass\na = A(); a.attribute = {'inner': 1}; b = A(); b.attribute = 2; d = {'literal': a, ''.join(['com', 'puted']): b}"
    names = run(code)
    before = find_interned([names["d"]], (names,))
    assert before[0] == ("inner", "literal") and vars(names["a"]).keys() == {"attribute"}
    assert find_interned([names["d"]], (names,)) == before
