"""``%dvc_state reuse on``: functions and heavy operations of cells are answered when they were seen, in this kernel and across kernels.

Cells are instrumented as syntax trees, by a transformer of IPython's; IPython compiles and runs them as ever.
"""

from __future__ import annotations

import ast
import atexit
import linecache
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dartvc.sessions import Session

if TYPE_CHECKING:
    from dartvc.lineage.reusing import Reuse
    from dartvc.shims.cells import Cells

__all__ = ["CellReuse"]

_USAGE = "error: reuse what?\n  %dvc_state reuse on, on --partial, off, or status\n"


class CellReuse:
    """Reuse of work in one shell.

    Args:
        shell: IPython's.
        session: attached to its namespace.
        cells: commits long ones in their middle.
    """

    def __init__(self, shell: Any, session: Session, cells: Cells) -> None:
        self._shell = shell
        self._session = session
        self._cells = cells
        self._reuse: Reuse | None = None
        self._is_on = False
        self._raw = ""

    def begin(self, info: Any) -> None:
        """A cell begins."""
        self._raw = info.raw_cell or ""

    def command(self, words: Sequence[str]) -> tuple[int, str, str]:
        """Runs ``reuse on``, ``off`` or ``status``; returns exit code, output and messages."""
        if list(words) in (["on"], ["on", "--partial"]):
            return self._turn_on(is_partial="--partial" in words)
        if list(words) == ["off"]:
            return self._turn_off()
        if not words or list(words) == ["status"]:
            return 0, self._status(), ""
        return 2, "", _USAGE

    def _status(self) -> str:
        reuse = self._reuse
        if reuse is None:
            return "reuse is off\n"
        sites = reuse.all_sites()
        calls, reused = sum(each.calls for each in sites), sum(each.reused for each in sites)
        kind = "off" if not self._is_on else "on, also in part" if reuse.is_partial else "on"
        return f"reuse is {kind}: {reused} of {calls} calls answered, {max(reuse.calls.saved_s, 0.0):.1f} s saved\n"

    def _turn_on(self, *, is_partial: bool) -> tuple[int, str, str]:
        if self._reuse is None:
            from dartvc.lineage.reusing import Reuse

            session, cells = self._session, self._cells
            reuse = Reuse(session.repository, cells.sources, self._shell.user_ns, os.getcwd(), "", is_partial=is_partial, is_cell=cells.is_cell)
            reuse.shown_file = cells.shown_file
            reuse.install()
            cells.watched_by(reuse)
            self._reuse = reuse
            session.working.plain_code = reuse.compiler.plain
            publisher = self._shell.display_pub
            publisher.publish = self._watched(publisher.publish)
            atexit.register(reuse.close)
            reuse.go_on()
        elif self._reuse.is_partial != is_partial:
            return 4, "", "error: this kernel has begun with another kind of reuse\n  restart it to change that\n"
        elif not self._is_on:
            self._reuse.go_on()
        if not self._is_on:
            self._is_on = True
            self._shell.ast_transformers.append(self)
        return 0, self._status(), ""

    def _turn_off(self) -> tuple[int, str, str]:
        if self._reuse is not None and self._is_on:
            self._is_on = False
            self._shell.ast_transformers.remove(self)
            self._reuse.pause()
        return 0, self._status(), ""

    def _watched(self, publish: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._reuse is not None:
                self._reuse.witness.refuse("shows something")
            return publish(*args, **kwargs)

        return watched

    def settle(self) -> None:
        """Writes the account that ``cache stats`` reads."""
        if self._reuse is not None:
            self._reuse.write_account(session_id=self._session.session_id)

    def close(self) -> None:
        """Gives everything its plain code back and stores what waits."""
        if self._reuse is not None:
            self._turn_off()
            atexit.unregister(self._reuse.close)
            self._reuse.close()
            self._session.working.plain_code = None

    def visit(self, tree: ast.Module) -> ast.Module:
        """Instruments a cell; IPython calls it as a transformer of syntax trees, and drops one that raises."""
        reuse = self._reuse
        try:
            text = self._shell.transform_cell(self._raw)
            name = self._name_of(text)
            if reuse is None or not name or ast.dump(ast.parse(text)) != ast.dump(tree):
                return tree  # another transformer was there, or the cell awaits: it runs as it is
            return reuse.compiler.transform(name, text, tree, self._shell.compile.flags)
        except (SyntaxError, ValueError, RecursionError, AttributeError):
            return tree

    def _name_of(self, text: str) -> str:
        """Returns the file name under which the shell compiles the cell that is about to run; empty when it is not found."""
        lines = text.splitlines()
        for name in reversed(getattr(self._shell.compile, "_filename_map", {})):
            if [line.rstrip("\n") for line in linecache.getlines(name)] == lines:
                return str(name)
        return ""
