"""Code of cells that is run again."""

from __future__ import annotations

import asyncio
from typing import Any

from dartvc.sessions.recompute import execute, no_effects

AWAITING = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 3\nx = [await f() for _ in range(2)]\nloop = asyncio.get_running_loop()\n"


def test_a_cell_that_awaits_is_run_beside_the_loop_of_a_kernel() -> None:
    names: dict[str, Any] = {}

    async def kernel() -> asyncio.AbstractEventLoop:
        own = asyncio.get_running_loop()
        with no_effects():
            execute(AWAITING, "<recipe>", names)
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is own
        return own

    assert asyncio.run(kernel()) is not names["loop"] and names["x"] == [3, 3]


def test_a_cell_that_awaits_needs_no_loop_around_it() -> None:
    names: dict[str, Any] = {}
    execute(AWAITING, "<recipe>", names)
    execute("y = x", "<recipe>", names)
    assert names["y"] == [3, 3]
