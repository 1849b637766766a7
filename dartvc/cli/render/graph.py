"""The lanes of history beside a log, as `git log --graph` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dartvc.cli.render.paint import Paint

__all__ = ["Lanes"]


class Lanes:
    """Draws commits that come children before parents; holds which commit each lane waits for."""

    def __init__(self, paint: Paint) -> None:
        self._paint = paint
        self._waits: list[str] = []
        self._star, self._bar = self._tint("*"), self._tint("|")

    @property
    def are_empty(self) -> bool:
        """Whether no commit is waited for."""
        return not self._waits

    def ends_with(self, oid: str, parents: Sequence[str]) -> bool:
        """Whether nothing is waited for any more once this commit is drawn."""
        return not parents and self._waits in ([], [oid])

    def draw(self, oid: str, parents: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
        """Yields a commit's lines behind its lanes, then the lines on which lanes part and join.

        Args:
            oid: the commit.
            parents: its parents, the first in its own lane.
            lines: its text; the first stands beside the mark.
        """
        waits = self._waits
        if self._stays_alone(oid, parents):
            yield f"{self._star} {lines[0]}"
            for line in lines[1:]:
                yield f"{self._bar} {line}".rstrip()
            return
        if oid not in waits:
            waits.append(oid)
        lane = waits.index(oid)
        marks = ["|"] * len(waits)
        marks[lane] = "*"
        yield self._join(marks) + " " + lines[0]
        beside = self._beside(lane, bool(parents))
        shapes: list[str] = []
        if not parents:
            del waits[lane]
            if lane < len(waits):
                shapes.append(self._tint(" ".join(["|"] * lane + [" /"] * (len(waits) - lane)).rstrip()))
        else:
            waits[lane] = parents[0]
            for count, parent in enumerate(dict.fromkeys(parents[1:])):
                if parent != parents[0]:
                    shapes.append(self._part(lane + count, parent))
            shapes.extend(self._collapse())
        for line in lines[1:]:
            yield f"{beside} {line}".rstrip()
        yield from shapes

    def _stays_alone(self, oid: str, parents: Sequence[str]) -> bool:
        """Fast path: a commit with one parent while there is one lane changes nothing but what the lane waits for."""
        if len(parents) != 1 or (self._waits and self._waits != [oid]):
            return False
        self._waits = [parents[0]]
        return True

    def _beside(self, lane: int, goes_on: bool) -> str:
        marks = ["|"] * len(self._waits)
        if not goes_on:
            marks[lane] = " "
        return self._join(marks)

    def _part(self, lane: int, parent: str) -> str:
        """Opens a lane for a further parent to the right of ``lane``."""
        right = len(self._waits) - lane - 1
        self._waits.insert(lane + 1, parent)
        return self._tint(" ".join(["|"] * lane + ["|\\" + " \\" * right]))

    def _collapse(self) -> Iterator[str]:
        """Joins lanes that wait for one commit, the rightmost first."""
        while True:
            waits = self._waits
            twins = [lane for lane in range(len(waits) - 1, 0, -1) if waits.index(waits[lane]) < lane]
            if not twins:
                return
            lane = twins[0]
            target = waits.index(waits[lane])
            letters = list("| " * lane)
            letters[2 * lane - 1] = "/"
            for place in range(2 * target + 1, 2 * lane - 2, 2):
                letters[place] = "_"
            del waits[lane]
            yield self._tint(("".join(letters) + " /" * (len(waits) - lane)).rstrip())

    def _join(self, marks: Sequence[str]) -> str:
        return self._tint(" ".join(marks))

    def _tint(self, text: str) -> str:
        return f"{self._paint.frame}{text}{self._paint.off}" if self._paint.off else text
