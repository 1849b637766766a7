"""Change detection: what a unit of code changed is staged, what it did not is not, and nothing is missed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartvc.state.candidates import names_in_source, touched_names
from dartvc.state.chunking import CHANGED_CHUNK_BYTES, STREAM_CHUNK_BYTES, match_stream, unframe
from dartvc.state.saving import Sink
from dartvc.state.summaries import summarize
from dartvc.state.working import WorkingNamespace


class Program:
    """A namespace that cells run in, staged after each."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.working = WorkingNamespace(self.namespace, summarize)

    def cell(self, code: str) -> set[str]:
        exec(compile(code, "<cell>", "exec"), self.namespace)
        delta = self.working.stage(names_in_source(code))
        return {name.name for name in delta.changed} | {f"-{name}" for name in delta.removed}


MISSED_BY_OTHERS = {
    "rebinding": (["x = 1", "x = 2"], {"x"}),
    "the same value again": (["x = 1", "x = 1"], set()),
    "a method that mutates": (["l = [1]", "l.append(2)"], {"l"}),
    "an alias": (["l = [1]; m = l", "m.append(2)"], {"l", "m"}),
    "an alias made inside a container": (["l = [1]", "d = {'l': l}", "d['l'].append(2)"], {"l", "d"}),
    "global in a function": (["x = 1", "def f():\n  global x\n  x = 2", "f()"], {"x"}),
    "mutation inside a function": (["x = []\ndef f(): x.append(1)", "f()"], {"x"}),
    "mutation two calls deep": (["x = []\ndef f(): x.append(1)\ndef g(): f()", "g()"], {"x"}),
    "mutation by a callback in a list": (["x = []\ncallbacks = [lambda: x.append(1)]", "callbacks[0]()"], {"x"}),
    "mutation by a method": (["x = []\nclass A:\n  def m(self): x.append(1)\na = A()", "a.m()"], {"x"}),
    "underscore names": (["_p = 1", "_p = 2"], {"_p"}),
    "globals()": (["x = 1", "globals()['x'] = 2"], {"x"}),
    "exec": (["x = [1]", "exec('x.append(2)')"], {"x"}),
    "a closure's cell": (["def mk():\n  n = 0\n  def inc():\n    nonlocal n\n    n += 1\n  return inc\ninc = mk()", "inc()"], {"inc"}),
    "a class attribute": (["class A: k = 1", "A.k = 2"], {"A"}),
    "deletion": (["x = 1", "del x"], {"-x"}),
    "only looking": (["x = [1]", "y = len(x)"], {"y"}),
    "the globals of an exec, through its function": (
        ["ns = {}; exec('K = []\\ndef f(): K.append(1)', ns); f = ns['f']; other = {}; exec('def g(): pass', other)", "f()"],
        {"ns", "f"},
    ),
    "a dict subclass": (["class D(dict): pass\nd = D()", "d['a'] = 1"], {"D", "d"}),
}  # fmt: skip


@pytest.mark.parametrize("claim", MISSED_BY_OTHERS)
def test_notices(claim: str) -> None:
    cells, expected = MISSED_BY_OTHERS[claim]
    program = Program()
    for cell in cells[:-1]:
        program.cell(cell)
    assert program.cell(cells[-1]) == expected


REALLY_CHANGED = {
    "an attribute of an instance is not its class": (["class A: pass", "a = A()", "a.n = 1"], {"a"}),
    "a class that got an instance": (["class A: pass", "a = A()"], {"a"}),
    "an attribute of a class is what its instances have, too": (["class A: pass", "a = A()", "A.k = 2"], {"A", "a"}),
    "a dict that holds a list": (["x = [1, 2]; y = {'k': x}", "y['z'] = 1"], {"y"}),
    "a list that a dict holds": (["x = [1, 2]; y = {'k': x}", "x.append(3)"], {"x", "y"}),
    "a list that no dict holds any longer": (["x = [1, 2]; y = {'k': x}", "y = 1"], {"y"}),
    "a long list that a dict holds": (["x = [[n, str(n)] for n in range(5000)]; y = {'k': x}", "y['z'] = 1"], {"y"}),
    "deep inside a long list that a dict holds": (["x = [[n, str(n)] for n in range(5000)]; y = {'k': x}", "x[2000][0] = -1"], {"x", "y"}),
    "a number of many digits beside it": (["x = [10 ** 9000]; y = {'k': x}", "y['z'] = 1"], {"y"}),
    "a name for what is there": (["x = [1, 2]", "y = x"], {"y"}),
    "one of two that know each other": (["a = []; b = [a]; a.append(b); c = {'a': a}", "c['n'] = 1"], {"c"}),
}  # fmt: skip


@pytest.mark.parametrize("claim", REALLY_CHANGED)
def test_only_the_names_whose_contents_changed_are_said_to_have_changed(claim: str) -> None:
    cells, expected = REALLY_CHANGED[claim]
    program = Program()
    for cell in cells[:-1]:
        program.cell(cell)
    exec(cells[-1], program.namespace)
    changed = program.working.stage(names_in_source(cells[-1])).changed
    assert {name.name for name in changed if not name.is_same} == expected


def test_a_restored_co_variable_s_names_are_told_apart() -> None:
    program = Program()
    program.cell("x = [1, 2]; y = {'k': x}")
    version = program.working.stored("x")
    assert version is not None
    program.working.forget(["x", "y"])
    program.working.adopt(version._replace(members={}, small=b""))
    exec("y['z'] = 1", program.namespace)
    assert [(name.name, name.is_same) for name in program.working.stage({"y"}).changed] == [("x", True), ("y", False)]


def test_the_elements_of_a_large_array_are_part_of_what_holds_it() -> None:
    pytest.importorskip("numpy")
    program = Program()
    program.cell("import numpy as np\na = np.zeros(100_000); d = {'a': a}")
    exec("d['b'] = 1", program.namespace)
    assert [name.name for name in program.working.stage({"d"}).changed if not name.is_same] == ["d"]
    exec("a[5] = 1", program.namespace)
    assert [name.name for name in program.working.stage({"a"}).changed if not name.is_same] == ["a", "d"]


def test_sharing_an_immutable_is_not_aliasing() -> None:
    program = Program()
    program.cell("key = 'k' * 50; a = {key: [1]}; b = {key: [2]}; t = (1, 2); c = [t]; d = [t]")
    assert program.cell("a[key].append(3)") == {"a"}
    assert program.cell("c.append(0)") == {"c"}


def test_one_bad_name_never_costs_another() -> None:
    program = Program()
    exec("good = [1]; bad = (i for i in range(3)); also = {'g': good}", program.namespace)
    delta = program.working.stage(None)
    assert [omission.name for omission in delta.omissions] == ["bad"]
    assert {name.name for name in delta.changed if name.payload is not None} == {"good", "also"}


def test_the_reason_names_the_path_inside_the_object() -> None:
    program = Program()
    exec("import threading\nclass S: pass\ns = S(); s.pool = {'lock': threading.Lock()}; s.pool['lock'].acquire()", program.namespace)
    delta = program.working.stage(None)
    assert delta.omissions[0].path == "s.pool['lock']"


def test_one_changed_element_of_a_large_array_costs_one_chunk() -> None:
    pytest.importorskip("numpy")
    program = Program()
    program.cell("import numpy as np\na = np.zeros(1_000_000)")
    program.namespace["a"][5] = 1
    (staged,) = program.working.stage({"a"}).changed
    assert staged.payload is not None
    assert 0 < staged.payload.new_bytes <= 600_000


def test_appending_to_a_long_list_costs_its_tail() -> None:
    program = Program()
    program.cell("rows = [{'id': i, 'name': f'n{i}'} for i in range(20_000)]")
    program.namespace["rows"].append({"id": -1, "name": "new"})
    (staged,) = program.working.stage({"rows"}).changed
    assert staged.payload is not None
    assert staged.payload.new_bytes < 3 * STREAM_CHUNK_BYTES


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=0, max_size=200_000), st.integers(0, 200_000), st.binary(max_size=50), st.integers(0, 100))
def test_matched_streams_are_the_stream(base: bytes, at: int, inserted: bytes, deleted: int) -> None:
    """Chunks reused or new, joined, always give the stream; those marked as known were in the version before."""
    _, before = match_stream(base, ())
    at = min(at, len(base))
    changed = base[:at] + inserted + base[at + deleted :]
    refs, chunks = match_stream(changed, before)
    known = {chunk.digest: base for chunk in before}
    place, out = 0, []
    for ref in refs:
        out.append(changed[place : place + ref.size_bytes])
        assert ref.data is None or ref.data == out[-1]
        assert ref.data is not None or ref.digest in known
        place += ref.size_bytes
    assert b"".join(out) == changed
    assert [chunk.digest for chunk in chunks] == [ref.digest for ref in refs]


def test_one_byte_more_in_a_repetitive_stream_costs_its_chunk() -> None:
    """The anchors of the chunks behind the change stand at many places before them."""
    block = b"".join(bytes([100 + i % 7]) * 64 for i in range(256))
    base = b"".join(block + i.to_bytes(4, "little") for i in range(40))
    _, before = match_stream(base, ())
    refs, chunks = match_stream(base[:20_000] + b"x" + base[20_000:], before)
    assert sum(ref.size_bytes for ref in refs if ref.data is not None) == STREAM_CHUNK_BYTES + 1
    refs, _ = match_stream(base[:20_000] + b"yy" + base[20_000:], chunks)
    assert sum(ref.size_bytes for ref in refs if ref.data is not None) <= STREAM_CHUNK_BYTES // 3


def test_the_head_of_a_long_stream_is_cut_finer() -> None:
    """An attribute of a large object stands in front of what it holds: to set it costs a quarter of a chunk, also the first time."""
    base = random.Random(0).randbytes(100_000)
    _, before = match_stream(base, ())
    refs, _ = match_stream(base[:500] + b"x" + base[500:], before)
    assert sum(ref.size_bytes for ref in refs if ref.data is not None) == CHANGED_CHUNK_BYTES + 1


@given(st.lists(st.one_of(st.integers(), st.text(), st.binary(max_size=300_000)), max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_pickle_without_frames_loads_the_same(value: list[object]) -> None:
    import pickle

    whole = pickle.dumps(value, 5)
    for pickler in (pickle.Pickler, pickle._Pickler):
        sink = Sink()
        pickler(sink, 5).dump(value)
        assert unframe(sink.pieces) == unframe([whole])
    assert pickle.loads(unframe([whole], b"behind its end")) == value


def test_dynamic_code_widens_to_everything() -> None:
    assert touched_names({"globals"}, {"x": 1}, {}) is None
    assert touched_names({"x"}, {"x": 1, "y": 2}, {}) == {"x"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3_000_000), max_size=6))
def test_shared_hashing_agrees_with_plain_hashing(sizes: list[int]) -> None:
    from unittest.mock import patch

    from dartvc.host.threads import Helper
    from dartvc.state import chunking

    buffers = [memoryview(bytes([index % 251]) * size) for index, size in enumerate(sizes)]
    helper = Helper("test-hash")
    with patch.object(chunking, "PARALLEL_BYTES", 1):
        assert chunking.digest_buffers(buffers, helper) == chunking.digest_buffers(buffers)
    helper.close()
