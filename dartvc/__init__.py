"""git for the state of a running Python program.

Every checkpoint of a namespace is a commit in an ordinary git object database. This module is the public face; it is light
(nothing is loaded before it is used) and forwards to `dartvc.porcelain.face`, `dartvc.hindsight.recording` and `dartvc.shims.prompt`.

    repo = dartvc.init()                      # or dartvc.open()
    commit = repo.commit(globals(), "before the merge")
    repo.checkout("HEAD~2", globals())
    with dartvc.transaction(globals()): ...
"""

from __future__ import annotations

TYPE_CHECKING = False  # not typing's, which takes longer to import than all of this
if TYPE_CHECKING:
    from dartvc.hindsight.recording import log
    from dartvc.porcelain.face import Repository, arg, init, open, session, transaction
    from dartvc.shims.prompt import attach

__all__ = [
    "Repository",
    "__version__",
    "arg",
    "attach",
    "init",
    "load_ipython_extension",
    "log",
    "open",
    "session",
    "transaction",
    "unload_ipython_extension",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        module = {"attach": "dartvc.shims.prompt", "log": "dartvc.hindsight.recording"}.get(name, "dartvc.porcelain.face")
        found = globals()[name] = getattr(importlib.import_module(module), name)
        return found
    raise AttributeError(f"module 'dartvc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


def load_ipython_extension(shell: object) -> None:
    """Answers ``%load_ext dartvc``."""
    import importlib

    importlib.import_module("dartvc.shims.ipython").load_extension(shell)


def unload_ipython_extension(shell: object) -> None:
    """Answers ``%unload_ext dartvc``."""
    import importlib

    importlib.import_module("dartvc.shims.ipython").unload_extension(shell)
