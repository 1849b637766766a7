"""FlorDB's functions, for programs that were written for it: ``import dartvc.flor as flor``.

``log``, ``arg`` and ``dataframe`` are dartvc's own. ``loop`` only names a loop: loops need no annotation here. Checkpoints are taken by themselves, so
``checkpointing`` has nothing to do, and ``commit`` makes durable what was logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from dartvc.hindsight.contexts import NamedLoop
from dartvc.hindsight.recording import end_run, flush, log
from dartvc.porcelain.face import arg, open

__all__ = ["arg", "checkpointing", "commit", "dataframe", "log", "loop"]

_T = TypeVar("_T")


def loop(name: str, items: Iterable[_T]) -> Iterator[_T]:
    """Iterates over ``items``; in queries the loop's column is called ``name``."""
    return cast("Iterator[_T]", NamedLoop(name, items))


@contextmanager
def checkpointing(**objects: object) -> Iterator[None]:
    """Does nothing: every commit of a run holds all of its variables, ``objects`` too."""
    yield


def commit() -> None:
    """Makes durable what was logged; in a process that ``dvc-state run`` did not start and that has no session, ends the run."""
    flush()
    end_run()


def dataframe(*names: str) -> Any:
    """Returns what was logged under these names as a `pandas.DataFrame`; without names, what every run logged outside of loops.

    Raises:
        NotFoundError: there is no repository, or a name is not known.
    """
    repository = open()
    if names:
        return repository.dataframe(*names)
    outside = repository.query("SELECT DISTINCT name FROM logs WHERE length(context) = 0 UNION SELECT name FROM args ORDER BY name")
    return repository.dataframe(*outside["name"])
