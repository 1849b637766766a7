"""A damaged HEAD and damaged refs are put back to where they were, by one command that every error about them names."""

from __future__ import annotations

import io

import pytest

from dartvc.cli.entry import run
from dartvc.history import RefMove, Repository
from dartvc.history.fsck import check_repository
from dartvc.history.repair import PutBack, put_back
from dartvc.model import Oid
from dartvc.store import Head
from tests.unit.history.staging import Commit, stage

GONE = "1" * 40


DAMAGED = [(name, text) for name in ("HEAD", "refs/heads/main", "refs/heads/side", "refs/tags/best") for text in ("", "rubbish", GONE)]


def command(repository: Repository, *words: str) -> tuple[int, str]:
    """Gives a command as another process would; returns its exit code and all that it said."""
    out, err = io.StringIO(), io.StringIO()
    again = Repository.open(repository.root, key_path=repository.root.parent / "key", trust_path=repository.root.parent / "trusted")
    code = run(words, stdout=out, stderr=err, repository=again)
    return code, out.getvalue() + err.getvalue()


def named(repository: Repository) -> object:
    refs = Repository.open(repository.root).database.refs
    return dict(refs.iter_refs()), refs.head()


@pytest.mark.parametrize(("name", "text"), [*DAMAGED, ("HEAD", "ref: refs/heads/nobody")])
def test_what_is_damaged_is_put_back_by_the_command_that_is_named(repository: Repository, commit: Commit, name: str, text: str) -> None:
    first, last = commit({"x": 1}), commit({"x": 2})
    moves = [RefMove("refs/heads/side", None, first), RefMove("refs/tags/best", None, first)]
    repository.move_refs(moves, operation="branch", description="")
    before = named(repository)
    (repository.path / name).write_text(f"{text}\n")
    code, said = command(repository, "fsck")
    assert code == 1 and all("fsck --repair" in line for line in said.splitlines()), said
    code, said = command(repository, "doctor")
    assert "dvc-state fsck" in said
    code, said = command(repository, "fsck", "--repair")
    assert code == 0 and said.startswith(f"{name}: put back to "), said
    assert named(repository) == before
    assert last in command(repository, "log", "--json")[1]
    assert command(repository, "doctor")[1].count("fsck") == 0


def test_a_ref_goes_back_as_far_as_commits_can_be_read_and_no_undo_leads_forward_again(repository: Repository, commit: Commit) -> None:
    first = commit({"x": 1})
    lost = Oid(GONE)
    repository.operations.append(
        [RefMove("refs/heads/main", first, lost)], operation="commit", description="", session="",
        head_before=Head("refs/heads/main", first), head_after=Head("refs/heads/main", lost),
    )  # fmt: skip
    (repository.path / "refs" / "heads" / "main").write_text(f"{lost}\n")
    (repository.path / "refs" / "heads" / "unknown").write_text("rubbish")
    assert put_back(repository) == [PutBack("refs/heads/main", lost, first), PutBack("refs/heads/unknown", "rubbish", "")]
    assert repository.database.refs.head() == Head("refs/heads/main", first)
    assert next(repository.operations.iter_newest()).operation == "repair"
    assert put_back(repository) == [] and list(check_repository(repository)) == []
    command(repository, "undo")
    assert repository.database.refs.read("refs/heads/main") == first


def test_the_tip_of_a_run_is_found_among_commits(repository: Repository) -> None:
    writer = repository.writer()
    oids = [writer.write(stage({"x": 1})._replace(run="run1"), [])]
    oids.append(writer.write(stage({"x": 2})._replace(run="run1"), oids))
    writer.publish()
    repository.move_refs([RefMove("refs/heads/main", None, oids[1])], operation="commit", description="")
    repository.database.refs.note("refs/runs/run1", oids[1])
    (repository.path / "refs" / "runs" / "run1").write_text("")
    assert put_back(repository) == [PutBack("refs/runs/run1", "", oids[1])]


def test_a_repository_without_head_is_whole_again_after_init(repository: Repository, commit: Commit) -> None:
    last = commit({"x": 1})
    (repository.path / "HEAD").unlink()
    out = io.StringIO()
    assert run(["log"], stdout=out, stderr=out, directory=str(repository.root)) == 3 and "dvc-state init" in out.getvalue()
    assert run(["init"], stdout=out, stderr=out, directory=str(repository.root)) == 0
    assert repository.database.refs.head() == Head("refs/heads/main", last)
