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
