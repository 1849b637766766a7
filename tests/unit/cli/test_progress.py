"""Progress is counted deep in the engine and shown by whoever watches."""

from __future__ import annotations

import io
import threading

from dartvc.cli.progress import ProgressLine, render_progress
from dartvc.host.progress import counting, track, watched_by


class Terminal(io.StringIO):
    """A stream that tells when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


def test_without_a_watcher_the_items_are_handed_back_as_they_are() -> None:
    items = [1, 2, 3]
    assert track("counting", items) is items
    with counting("counting") as step:
        step()


def test_the_line_shows_the_innermost_task_and_is_gone_when_all_are_over() -> None:
    terminal = Terminal()
    line = ProgressLine(terminal, delay_s=0, redraw_s=0.001)
    with watched_by(line), counting("outer", 4) as step:
        step()
        for _ in track("inner", range(3), 3):
            terminal.written.clear()
            assert terminal.written.wait(30)
        while "outer [######" not in terminal.getvalue():
            terminal.written.clear()
            assert terminal.written.wait(30)
    shown = terminal.getvalue()
    assert "inner [" in shown
    assert "outer [######..................]   25 %  1 of 4" in shown
    assert shown.endswith("\r\x1b[K")
    assert not [thread for thread in threading.enumerate() if thread.name == "dartvc-progress"]


def test_short_work_shows_nothing() -> None:
    terminal = Terminal()
    with watched_by(ProgressLine(terminal, delay_s=3600)):
        for _ in track("short", [1, 2, 3]):
            pass
    assert terminal.getvalue() == ""


def test_a_task_that_fails_takes_its_line_away_too() -> None:
    terminal = Terminal()
    try:
        with watched_by(ProgressLine(terminal, delay_s=0, redraw_s=0.001)), counting("failing"):
            assert terminal.written.wait(30)
            raise ValueError
    except ValueError:
        pass
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_terminal_that_is_gone_does_not_stop_the_work() -> None:
    terminal = Terminal()
    terminal.close()
    with watched_by(ProgressLine(terminal, delay_s=0, redraw_s=0.001)):
        assert list(track("working", [1, 2, 3])) == [1, 2, 3]


def test_a_line_says_what_is_known_and_fits_the_terminal() -> None:
    assert render_progress("checking objects", 50, 200, 10.0, 120) == "checking objects [######..................]   25 %  50 of 200  30 s left"
    assert render_progress("following commits", 1234, None, 2.0, 120) == "following commits ...  1,234  2 s"
    assert render_progress("talking to the remote", 0, None, 1.0, 120) == "talking to the remote ...  1 s"
    assert render_progress("copying", 300, 200, 10.0, 120).endswith("100 %  300 of 200")
    assert len(render_progress("checking objects", 50, 200, 10.0, 30)) == 29
