"""The global random streams of the process: of `random`, numpy and torch."""

from __future__ import annotations

import importlib
import marshal
import random
import sys
from typing import Any

from xxhash import xxh3_128

__all__ = ["Streams"]


class Streams:
    """The random streams of the process: what they stand at, and putting them there."""

    def capture(self) -> tuple[Any, ...]:
        """Returns the states of `random`, numpy's global stream and torch's; None for what is not loaded."""
        if "numpy" in sys.modules and not hasattr(sys.modules.get("numpy.random"), "get_state"):
            # it seeds its global stream when it is loaded: not in the middle of a call; another thread that loads it now is waited for
            importlib.import_module(f"{sys.modules['numpy'].__name__}.random")
        numpy_random = sys.modules.get("numpy.random")
        torch = sys.modules.get("torch")
        numpy_state = numpy_random.get_state(legacy=False) if numpy_random is not None and hasattr(numpy_random, "get_state") else None
        torch_state = torch.get_rng_state().numpy().tobytes() if torch is not None and hasattr(torch, "get_rng_state") else None
        return random.getstate(), numpy_state, torch_state

    def digests(self) -> tuple[bytes, ...]:
        """Returns what stands for the position of each stream."""
        python, numpy_state, torch_state = self.capture()
        return _place_of_python(python), _place_of_numpy(numpy_state), _digest(torch_state or b"")

    def place_of_python(self) -> bytes:
        """Returns what stands for the position of the stream of `random` alone."""
        return _place_of_python(random.getstate())

    def place_of_numpy(self, module: Any) -> bytes:
        """Returns what stands for the position of numpy's stream alone; ``module`` is ``numpy.random``."""
        return _place_of_numpy(module.get_state(legacy=False))

    def moved_since(self, before: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[Any, ...]]:
        """Returns, of the streams that are no longer at ``before``, the digests of then (empty for the others) and the states of now (None); ((), ()) for none."""
        is_moved = [then != now for then, now in zip(before, self.digests(), strict=True)]
        if not any(is_moved):
            return (), ()
        moved = tuple(then if moves else b"" for then, moves in zip(before, is_moved, strict=True))
        return moved, tuple(state if moves else None for state, moves in zip(self.capture(), is_moved, strict=True))

    def are_at(self, moved: tuple[bytes, ...]) -> bool:
        """Whether the streams that a call moved stand where it found them."""
        return self.now_of(moved) == moved

    def now_of(self, moved: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Returns where the streams that a call moved stand now, as `moved_since` has it."""
        return tuple(now if then else b"" for then, now in zip(moved, self.digests(), strict=True))

    def apply(self, states: tuple[Any, ...]) -> None:
        """Puts the streams where they were captured; None leaves one where it is."""
        python, numpy_state, torch_state = states
        if python is not None:
            random.setstate(python)
        numpy_random, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
        if numpy_state is not None and numpy_random is not None:
            numpy_random.set_state(numpy_state)
        if torch_state is not None and torch is not None:
            torch.set_rng_state(torch.frombuffer(bytearray(torch_state), dtype=torch.uint8))


def _place_of_python(state: tuple[Any, ...]) -> bytes:
    return _digest(marshal.dumps(state, 2))


def _place_of_numpy(captured: dict[str, Any] | None) -> bytes:
    if captured is None:
        return b""
    state = captured["state"]
    rest = {key: value for key, value in state.items() if key != "key"}
    packed = state["key"].tobytes() if "key" in state else b""
    return _digest(packed, repr((captured["bit_generator"], rest, captured["has_gauss"], captured["gauss"])).encode())


def _digest(*parts: bytes) -> bytes:
    state = xxh3_128()
    for part in parts:
        state.update(part)
    return state.digest()
