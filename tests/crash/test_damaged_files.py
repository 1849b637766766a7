"""Every file of a repository cut and flipped: never wrong data, never a hang, damage is named, the rest restores, a new commit heals.

``DARTVC_TEST_DAMAGES`` says how many damages each file suffers; a large number means each length and each byte.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartvc.errors import DartvcError, RefusedError
from dartvc.history import Repository
from dartvc.model import Oid
from dartvc.porcelain.checking import check
from dartvc.porcelain.face import Repository as Face

DAMAGES = int(os.environ.get("DARTVC_TEST_DAMAGES", "12"))
DEADLINE_S = 20
NAMESPACE: dict[str, object] = {"__name__": "__main__", "rows": [1, 2, 3], "text": "unchanged", "data": bytearray(range(256)) * 300}
KINDS = (
    "pack",
    "idx",
    "refs/heads/main",
    "refs/tags/first",
    "HEAD",
    "config",
    "description",
    "operations.jsonl",
    "gc-epoch",
    "replaced",
    "key",
)
DETECTED = ("pack", "idx", "refs/heads/main", "refs/tags/first", "HEAD")
"""Kinds of which every changed byte counts; in the others some are free text."""


def state_of(step: int) -> dict[str, object]:
    """Returns what the commit of a step holds."""
    return {**{name: value for name, value in NAMESPACE.items() if name != "__name__"}, "rows": [1, 2, 3, *range(step)], "step": step}


@contextlib.contextmanager
def commit_all(history: Repository) -> Iterator[Face]:
    """Gives the Python interface, and ends its threads."""
    face = Face(history)
    try:
        yield face
    finally:
        for session in face._sessions.values():
            session._writer.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Oid]]:
    """A folder with a key and a repository of three commits in packs of their own, and the commits."""
    root = tmp_path_factory.mktemp("sound")
    history = Repository.init(root, key_path=root / "key")
    with commit_all(history) as face:
        oids = [face.commit({**NAMESPACE, **state_of(step)}, f"step {step}").oid for step in range(3)]
        face.tag("first", oids[0])
    (history.path / "gc-epoch").write_text("0123456789abcdef")
    history.replace_ids({Oid("a" * 40): oids[0]})
    return root, oids


@contextlib.contextmanager
def deadline() -> Iterator[None]:
    """Raises in what takes too long."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(DEADLINE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damages_of(content: bytes) -> list[tuple[str, bytes]]:
    """Returns a file cut at lengths, and flipped at bytes."""
    cuts = [(f"cut to {size}", content[:size]) for size in range(len(content))]
    flips = [(f"flipped at {at}", content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]) for at in range(len(content))]
    return [
        every[index * len(every) // count] for every in (cuts, flips) for count in (min(DAMAGES, len(every)),) for index in range(count)
    ]


def find_faults(root: Path, oids: list[Oid], *, must_detect: bool) -> Iterator[str]:
    """Yields which promises a damaged repository breaks."""
    broken: list[str] = []
    try:
        history = Repository.open(root, key_path=root / "key")
    except DartvcError:
        return  # refused as a whole, by name
    head: Oid | None = None
    try:
        head = history.resolve("HEAD")
    except DartvcError as error:
        broken.append(error.message)
    if head in oids[:-1]:
        yield f"HEAD is at {head}"
    for step, oid in enumerate(oids):
        try:
            if Face(history).load(oid) != state_of(step):
                yield f"wrong data of commit {step}"
        except DartvcError as error:
            broken.append(error.message)
    problems = list(check(Repository.open(root, key_path=root / "key")))
    if broken and not problems and (root / "key").stat().st_size >= 32:
        yield f"fsck says nothing of {broken}"
    if must_detect and not problems:
        yield "fsck says nothing"
    healed = Repository.open(root, key_path=root / "key")
    with commit_all(healed) as face:
        try:
            after = face.commit({**NAMESPACE, **state_of(2)}, "again").oid
        except DartvcError as error:
            if not error.hint or isinstance(error, RefusedError):
                yield f"no commit is possible, without a hint: {error.message}"
            return
    if Face(Repository.open(root, key_path=root / "key")).load(after) != state_of(2):
        yield "the new commit holds something else"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_no_wrong_data_and_a_commit_heals(tmp_path: Path, sound: tuple[Path, list[Oid]], kind: str) -> None:
    root, oids = sound
    state = root / ".dvc-state"
    files = (
        sorted((state / "objects/pack").glob(f"*.{kind}")) if kind in ("pack", "idx") else [root / kind if kind == "key" else state / kind]
    )
    assert files and all(path.exists() for path in files)
    faults = []
    for path in files:
        for number, (what, content) in enumerate(damages_of(path.read_bytes())):
            copy = tmp_path / f"{path.name}-{number}"
            shutil.copytree(root, copy)
            target = copy / path.relative_to(root)
            target.chmod(0o644)
            target.write_bytes(content)
            try:
                with deadline():
                    faults += [
                        f"{path.name} {what}: {each}"
                        for each in find_faults(copy, oids, must_detect=kind in DETECTED and content.strip() != path.read_bytes().strip())
                    ]
            except Exception as error:
                faults.append(f"{path.name} {what}: {type(error).__name__}: {error}")
            shutil.rmtree(copy)
    assert not faults, "\n".join(faults)
