"""The shell that a notebook's magics meet when it runs as a program: IPython's, without a prompt, a history, a pager or windows."""

from __future__ import annotations

import re
import types

from IPython.core import page
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

__all__ = ["open_shell", "set_up_figures"]

_PLOTS = re.compile(r"\bget_ipython\(\)\.run_line_magic\('(?:matplotlib|pylab)', '(\w*)")
_OF_PROMPTS = ("exit", "quit", "open")


class _Shell(InteractiveShell):  # type: ignore[misc]
    """What a program calls as ``get_ipython()``; cells are no business of it."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Called by ``%matplotlib``: no event loop of windows runs beside a program."""

    def init_hooks(self) -> None:
        """What ``?`` shows is printed."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(page.display_page), 90)

    def init_user_ns(self) -> None:
        """Adds ``get_ipython`` to the program's names; what IPython's prompt has in place of builtins would end, or refuse, something else."""
        super().init_user_ns()
        for name in _OF_PROMPTS:
            self.user_ns.pop(name, None)


def open_shell(main: types.ModuleType) -> None:
    """Makes ``get_ipython`` and ``display`` known to a program."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    _Shell.instance(user_module=main, config=config)


def set_up_figures(text: str) -> None:
    """Does again what the magics in a text have set up of matplotlib: a part of the process that no commit holds."""
    for found in _PLOTS.finditer(text):
        _Shell.instance().run_line_magic("matplotlib", found[1])
