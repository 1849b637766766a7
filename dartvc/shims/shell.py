"""An interactive shell in the state of a commit."""

from __future__ import annotations

from typing import Any

__all__ = ["interact"]


def interact(names: dict[str, Any], title: str) -> None:
    """Opens IPython, or Python's own prompt where IPython is not installed, with ``names``; nothing is committed from there."""
    try:
        from IPython import start_ipython
    except ImportError:
        import code

        code.interact(local=names, banner=f"the state of {title}: {' '.join(sorted(names))}")
        return
    start_ipython(argv=["--no-banner"], user_ns=names)
