"""Objects whose pickling changes them: a restore pickles a twin of theirs, not what it has restored."""

from __future__ import annotations

from pathlib import Path

import dartvc

COUNTING = """
class Counting:
    def __init__(self):
        self.pickled = 0
    def __getstate__(self):
        self.pickled += 1
        return {"pickled": self.pickled}
counting = Counting()
"""


def test_what_was_restored_is_as_it_was_stored(tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(COUNTING, namespace)
    repository.commit(namespace, "first")
    stored = namespace["counting"].pickled  # type: ignore[attr-defined]
    namespace["counting"].pickled = 70  # type: ignore[attr-defined]
    repository.commit(namespace, "second")
    repository.checkout("HEAD~1", namespace)
    assert namespace["counting"].pickled == stored  # type: ignore[attr-defined]


def test_what_was_restored_and_left_alone_is_no_change(tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__", "other": [1]}
    exec(COUNTING, namespace)
    repository.commit(namespace, "first")
    fresh: dict[str, object] = {"__name__": "__main__"}
    again = dartvc.open(tmp_path)
    again.checkout("HEAD", fresh)
    fresh["other"] = [2]
    again.commit(fresh, "second")
    assert next(iter(again.log())).modified == ("other",)


def test_a_change_after_a_restore_is_seen(tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(COUNTING, namespace)
    repository.commit(namespace, "first")
    fresh: dict[str, object] = {"__name__": "__main__"}
    again = dartvc.open(tmp_path)
    again.checkout("HEAD", fresh)
    fresh["counting"].pickled = 30  # type: ignore[attr-defined]
    again.commit(fresh, "second")
    assert "counting" in next(iter(again.log())).modified
    assert again.load("HEAD")["counting"].pickled == 31  # type: ignore[attr-defined]
