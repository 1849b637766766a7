"""Addresses: what is a path, what is for git, and what is refused because it would run a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from dartvc.errors import UsageError
from dartvc.remotes import parse_address


@pytest.mark.parametrize("text", ["../other", "/srv/states", "with space", "file:///srv/with%20space", "a/b:c", "./host:path"])
def test_a_path_is_a_path(tmp_path: Path, text: str) -> None:
    assert parse_address(text, tmp_path).path is not None


@pytest.mark.parametrize(
    "text", ["host:work", "me@host:/work", "ssh://host/work", "ssh://me@host:2222/~/work", "https://host/work.git", "[::1]:work"]
)
def test_other_addresses_are_for_git(tmp_path: Path, text: str) -> None:
    assert parse_address(text, tmp_path).path is None


def test_a_file_that_exists_is_a_path_even_with_a_colon(tmp_path: Path) -> None:
    (tmp_path / "host:work").mkdir()
    assert parse_address("host:work", tmp_path).path == tmp_path / "host:work"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=x",
        "ext::sh -c x",
        "fd::7",
        "ssh://-oProxyCommand=x/y",
        "ssh://me@-oProxyCommand=x/y",
        "gopher://host/x",
        "a\nb",
        "x\0y",
    ],
)
def test_what_could_run_a_program_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text, tmp_path)


def test_a_project_on_another_host_has_its_states_in_its_folder(tmp_path: Path) -> None:
    assert parse_address("host:work/", tmp_path).candidates() == ("host:work/.dvc-state", "host:work/")
    assert parse_address("host:work.git", tmp_path).candidates() == ("host:work.git",)
    assert parse_address("https://host/work", tmp_path).candidates() == ("https://host/work",)


@pytest.mark.parametrize(
    ("text", "stem"),
    [("/srv/study", "study"), ("/srv/study/.dvc-state", "study"), ("host:study.git", "study"), ("ssh://host/a/study/", "study")],
)
def test_a_clone_is_named_like_the_other_project(tmp_path: Path, text: str, stem: str) -> None:
    assert parse_address(text, tmp_path).stem == stem
