"""Git's names for commits."""

from __future__ import annotations

import pytest

from dartvc.errors import DartvcError, NotFoundError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.history.revisions import range_tips, split_path
from dartvc.model import Oid
from tests.unit.history.staging import Commit, stage


@pytest.fixture
def line(commit: Commit) -> list[Oid]:
    """Five commits on main, oldest first."""
    return [commit({"x": value}, message=f"step {value}") for value in range(5)]


def _branch(repository: Repository, name: str, oid: Oid) -> None:
    repository.move_refs([RefMove(name, None, oid)], operation="branch", description=name)


@pytest.mark.parametrize(
    ("revision", "index"),
    [
        ("HEAD", 4), ("@", 4), ("main", 4), ("refs/heads/main", 4), ("heads/main", 4), ("HEAD~", 3), ("HEAD~1", 3), ("@^", 3), ("@~0", 4),
        ("main~2^", 1), ("main^^", 2), ("main^0", 4), ("HEAD~4", 0), (":/step 2", 2), (":/^step [01]", 1), ("main^{/step 3}", 3),
        ("@{0}", 4), ("@{2}", 2), ("HEAD@{1}", 3), ("main@{3}", 1), ("@{1}~1", 2), ("main^{commit}", 4),
    ],
)  # fmt: skip
def test_revisions(repository: Repository, line: list[Oid], revision: str, index: int) -> None:
    assert repository.resolve(revision) == line[index]


@pytest.mark.parametrize(
    "revision",
    ["", "~1", "HEAD~9", "HEAD^2", "nothing", "@{99}", ":/no such", "HEAD~x", "abcd", "x@{1}", "HEAD^{/(}", "../HEAD", "@@", "^"],
)
def test_what_names_nothing_is_an_error_with_a_hint(repository: Repository, line: list[Oid], revision: str) -> None:
    with pytest.raises(DartvcError) as caught:
        repository.resolve(revision)
    assert isinstance(caught.value, NotFoundError | UsageError)
    assert caught.value.hint


def test_short_ids_need_four_digits(repository: Repository, line: list[Oid]) -> None:
    assert repository.resolve(line[2]) == line[2]
    assert repository.resolve(line[2][:12].upper()) == line[2]
    with pytest.raises(NotFoundError):
        repository.resolve(line[2][:3])


def test_an_ambiguous_short_id_lists_what_it_could_be(repository: Repository) -> None:
    writer = repository.writer()
    by_prefix: dict[str, list[Oid]] = {}
    number = 0
    while not any(len(oids) > 1 for oids in by_prefix.values()):
        oid = writer.write(stage({}, message=f"m{number}"), [])
        by_prefix.setdefault(oid[:4], []).append(oid)
        number += 1
    writer.publish()
    prefix, oids = next((prefix, oids) for prefix, oids in by_prefix.items() if len(oids) > 1)
    with pytest.raises(UsageError) as caught:
        repository.resolve(prefix)
    assert all(oid[:10] in caught.value.message for oid in oids)


def test_a_misspelt_branch_is_suggested(repository: Repository, line: list[Oid]) -> None:
    _branch(repository, "experiment", line[0])
    with pytest.raises(NotFoundError) as caught:
        repository.resolve("expriment")
    assert "experiment" in caught.value.hint


def test_a_tag_comes_before_a_branch(repository: Repository, line: list[Oid]) -> None:
    _branch(repository, "both", line[0])
    repository.move_refs([RefMove("refs/tags/both", None, line[1])], operation="tag", description="")
    assert repository.resolve("both") == line[1]


def test_head_can_be_given(repository: Repository, line: list[Oid]) -> None:
    assert repository.resolve("HEAD~1", head=line[2]) == line[1]


def test_an_empty_repository_has_no_head(repository: Repository) -> None:
    with pytest.raises(NotFoundError):
        repository.resolve("HEAD")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("main:df", ("main", "df", "")), ("main", ("main", None, "")), (":df", ("HEAD", "df", "")), ("", ("HEAD", None, "")),
        ("HEAD~2:model.layers[0]", ("HEAD~2", "model", ".layers[0]")), ("@{1}:d[\"a:b\"]", ("@{1}", "d", "[\"a:b\"]")),
        (":/text", (":/text", None, "")), ("main:", ("main", None, "")),
    ],
)  # fmt: skip
def test_paths_are_split_off(text: str, parts: tuple[str, str | None, str]) -> None:
    assert split_path(text) == parts


def test_ranges(repository: Repository, line: list[Oid]) -> None:
    writer = repository.writer()
    side = writer.write(stage({"y": 1}), [line[2]])
    writer.publish()
    _branch(repository, "side", side)

    def listed(*revisions: str) -> set[Oid]:
        tips, hidden = range_tips(repository, revisions)
        return {commit.oid for commit in repository.iter_log(tips, hide=hidden)}

    assert listed("main~2..main") == {line[3], line[4]}
    assert listed("side..") == {line[3], line[4]}
    assert listed("main...side") == {line[3], line[4], side}
    assert listed("side", "^main") == {side}
