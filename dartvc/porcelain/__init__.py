"""The verbs: plain arguments in, frozen values out; what the commands, the magics and the Python interface all call."""

from __future__ import annotations

__all__: list[str] = []
