"""The reader of git's configuration, held against git itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dartvc.errors import CorruptError
from dartvc.history.config import Config
from dartvc.history.gitconfig import parse_config

TEXTS = [
    "[core]\n\tbare = true\n",
    '[remote "origin"]\n\turl = host:work\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n',
    '[remote "With.Dot and \\"quote\\""]\n\turl=a b ; comment\n',
    '[a] b = "x # y" # comment\n c = "  kept  "\n',
    "[a]\n\tlong = one \\\n two\n\tflag\n\tempty =\n",
    '[a]\n\tesc = "tab\\tnew\\nend" tail\n',
    '# comment\n; another\n[A "Sub"] KeY = Value\n[a.b]\n c=1\n',
    "[a]\r\n\tb = c\r\n",
]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("text", TEXTS)
def test_it_reads_what_git_reads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(text.encode())
    listed = subprocess.run(["git", "config", "--file", str(path), "--list", "-z"], capture_output=True, text=True, check=True).stdout
    expected = [tuple(row.split("\n", 1)) if "\n" in row else (row, "true") for row in listed.split("\0") if row]
    assert list(parse_config(text, "config")) == expected


@pytest.mark.parametrize("text", ["key = 1\n", "[a\nb = 1\n", '[a]\nb = "open\n', "[a]\n= 1\n", "[a]\nb = \\q\n", '[a "x]\n'])
def test_what_is_not_git_s_is_named_with_its_line(text: str) -> None:
    with pytest.raises(CorruptError, match="line"):
        list(parse_config(text, "config"))


def test_includes_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("[dartvc]\n\tauthor = Mallory <m@x>\n")
    (tmp_path / "config").write_text('[include]\n\tpath = evil\n[includeIf "gitdir:/"]\n\tpath = evil\n')
    assert Config(tmp_path / "config").get("dartvc.author") == ""
