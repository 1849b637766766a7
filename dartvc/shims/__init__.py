"""How a running program meets a session: IPython and Jupyter kernels, the plain prompt, any other namespace."""

from __future__ import annotations

__all__: list[str] = []
