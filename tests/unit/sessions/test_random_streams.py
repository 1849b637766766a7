"""Making values again leaves the random streams where they were."""

from __future__ import annotations

import random

import pytest

from dartvc.sessions.recompute import random_streams_kept

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "Philox"])
@pytest.mark.filterwarnings("error")
def test_the_streams_are_kept_whatever_makes_their_bits(kind: str) -> None:
    before = numpy.random.get_bit_generator()
    try:
        numpy.random.set_bit_generator(getattr(numpy.random, kind)(5))
        with random_streams_kept():
            numpy.random.set_bit_generator(numpy.random.SFC64(1))
            drawn = random.random()
        with random_streams_kept():
            wanted = numpy.random.normal(size=3).tolist()
        assert (random.random(), numpy.random.normal(size=3).tolist()) == (drawn, wanted)
    finally:
        numpy.random.set_bit_generator(before)
