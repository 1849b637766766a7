"""Automatic commits wait while the disk is nearly full, and say so once."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dartvc.cli.entry import run
from dartvc.history import Repository
from dartvc.sessions.room import _HINT, Room


def test_a_lack_of_room_is_said_when_it_begins_and_again_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = Room(Repository.init(tmp_path))
    free = [5000, 3000, 3000, 5000, 3000]

    def statvfs(path: object) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=free.pop(0), f_frsize=1 << 10, f_blocks=80_000)

    monkeypatch.setattr(os, "statvfs", statvfs)
    lacks = [room.lack() for _ in range(5)]
    assert [bool(each) for each in lacks] == [False, True, True, False, True]
    assert lacks[1] == "only 3 MB of the disk are free, and 4 MB stay so (dartvc.minFree)"
    assert capsys.readouterr().err.count("no commits for now") == 2


def test_the_way_to_more_room_is_a_command_that_is_understood(tmp_path: Path) -> None:
    words = _HINT.partition(" drops")[0].split()
    Repository.init(tmp_path)
    out, err = io.StringIO(), io.StringIO()
    assert run(words[1:], stdout=out, stderr=err, directory=str(tmp_path)) == 0, err.getvalue()
