"""Arrays: shared memory survives, layout survives, small views of large memory are stored small."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.state.test_state_roundtrip import run, through

numpy = pytest.importorskip("numpy")

CASES = {
    "a view shares memory with its base": ("a = np.zeros(100_000); v = a[10:20]", "np.shares_memory(a, v) and (a.__setitem__(12, 5) or v[2] == 5)"),
    "two views of a base that has no name": ("_b = np.arange(10.); v = _b[2:5]; w = _b[3:8]; del _b", "np.shares_memory(v, w) and v.tolist() == [2, 3, 4]"),
    "a strided view": ("a = np.arange(20.).reshape(4, 5); v = a[::2, 1::2]", "np.shares_memory(a, v) and v.tolist() == [[1, 3], [11, 13]]"),
    "Fortran order": ("a = np.asfortranarray(np.arange(6.).reshape(2, 3))", "a.flags.f_contiguous and a.tolist() == [[0, 1, 2], [3, 4, 5]]"),
    "large Fortran order": ("a = np.asfortranarray(np.arange(60000.).reshape(200, 300))", "a.flags.f_contiguous and a[1, 2] == 302"),
    "what is left of larger arrays, laid out as it was": (
        "a = np.random.default_rng(0).random((300, 70)); s = a[:, :-1]; t = s.sum(); a = a * 1\nr = np.arange(9.)[::-2]; c = np.arange(40.).reshape(8, 5).T[1:, ::-1]",
        "s.strides == (560, 8) and s.sum() == t and r.strides == (-16,) and r.tolist() == [8, 6, 4, 2, 0] and c.strides == (8, -40) and c[0, 0] == 36",
    ),
    "rows seen again and again": ("b = np.broadcast_to(np.arange(3.), (4, 3))", "b.strides == (0, 8) and b.tolist() == [[0, 1, 2]] * 4 and not b.flags.writeable"),
    "a column of a large table, stored small": ("c = np.zeros((500, 400))[:, 7]", "c.shape == (500,) and not c.any() and c.strides == (8,)"),
    "read-only": ("a = np.arange(3); a.flags.writeable = False", "not a.flags.writeable"),
    "structured": ("a = np.zeros(3, [('x', 'i4'), ('y', 'f8')]); a['y'] = 2", "a.dtype.names == ('x', 'y') and a['y'].tolist() == [2, 2, 2]"),
    "objects, and itself": ("a = np.empty(2, object); a[0] = a; a[1] = [1]", "a[0] is a and a[1] == [1]"),
    "dates, half and long floats": (
        "a = np.array(['2024-01-01'], 'M8[D]'); h = np.float16([1.5]); l = np.longdouble(['0.1'])",
        "str(a[0]) == '2024-01-01' and h[0] == 1.5 and l[0] == np.longdouble('0.1')",
    ),
    "masked": ("a = np.ma.masked_array([1, 2, 3], [0, 1, 0])", "a.sum() == 4"),
    "a subclass with attributes": (
        "class M(np.ndarray):\n  def __array_finalize__(self, o): self.tag = getattr(o, 'tag', None)\nm = np.arange(3).view(M); m.tag = 't'",
        "m.tag == 't' and type(m) is M",
    ),
    "zero sizes": ("a = np.empty((0, 3), 'i1'); z = np.array(3)", "a.shape == (0, 3) and z.shape == ()"),
    "generators over one bit generator": (
        "b = np.random.PCG64(1); g = np.random.Generator(b); h = np.random.Generator(b)",
        "g.bit_generator is h.bit_generator",
    ),
    "a memoryview of an array": (
        "a = np.arange(6.).reshape(2, 3); m = memoryview(a)[1:]; n = memoryview(a).cast('B')[8:16]",
        "m.shape == (1, 3) and m.format == 'd' and (a.__setitem__((1, 0), 9) or m[0, 0] == 9) and (n.__setitem__(0, 1) or a[0, 1] != 1)",
    ),
    "a memoryview of an array of another layout": (
        "a = np.asfortranarray(np.arange(6.).reshape(2, 3)); m = memoryview(a)[::-1]; c = memoryview(np.arange(8)[::2])[1:]",
        "m.tolist() == [[3, 4, 5], [0, 1, 2]] and (a.__setitem__((1, 0), 9) or m[0, 0] == 9) and c.tolist() == [2, 4, 6]",
    ),
    "memoryviews of records and of read-only arrays": (
        "a = np.ones(3, [('x', 'i4')]); m = memoryview(a); r = memoryview(np.arange(3)).toreadonly(); b = np.arange(3); b.flags.writeable = False; w = memoryview(b)",
        "m.format == memoryview(a).format and r.readonly and w.readonly and w.tolist() == [0, 1, 2]",
    ),
    "an array over a view of mapped memory, which is its own afterwards": (
        "import mmap\na = np.frombuffer(memoryview(mmap.mmap(-1, 64)), 'i4', 2, 8); a[1] = 3; v = a[1:]; del mmap",
        "a.tolist() == [0, 3] and v.tolist() == [3] and np.shares_memory(a, v)",
    ),
    "an array and the bytearray under it": ("b = bytearray(8); a = np.frombuffer(b, 'u1')", "(b.__setitem__(1, 7) or a[1] == 7)"),
}  # fmt: skip


@pytest.mark.parametrize("claim", CASES)
def test_comes_back(claim: str) -> None:
    code, check = CASES[claim]
    fresh: dict[str, Any] = through(run("import numpy as np\n" + code))
    assert eval(check, fresh)


def test_a_small_view_of_large_memory_is_stored_small() -> None:
    from dartvc.state.saving import Saving, save

    namespace = run("import numpy as np\n_b = np.arange(1_000_000); v = _b[5:8]; del _b")
    saved = save({"v": namespace["v"]}, Saving(namespace, "__main__"))
    assert len(saved.stream) + sum(map(len, saved.buffers)) < 1000


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "SFC64", "Philox"])
@pytest.mark.parametrize("living", ["MT19937", "PCG64", "Philox"])
def test_the_global_stream_goes_on_whatever_makes_its_bits(kind: str, living: str) -> None:
    from dartvc.model import Payload
    from dartvc.state.process import ENTRIES, ProcessState, apply_process

    before = numpy.random.get_bit_generator()
    try:
        numpy.random.set_bit_generator(getattr(numpy.random, kind)(5))
        numpy.random.normal(size=3)
        process = ProcessState({})
        assert isinstance(next(each for each in process.stage() if each.name == "numpy.random").payload, Payload)
        assert not process.is_stale("numpy.random")
        captured = through({"state": ENTRIES["numpy.random"].capture()})["state"]
        wanted = (numpy.random.randint(5, dtype="u4"), numpy.random.normal())
        assert process.is_stale("numpy.random")
        numpy.random.set_bit_generator(getattr(numpy.random, living)(7))
        assert apply_process({"numpy.random": captured}) == []
        assert (numpy.random.randint(5, dtype="u4"), numpy.random.normal()) == wanted
    finally:
        numpy.random.set_bit_generator(before)
