"""The table that says which module holds which verb."""

from __future__ import annotations

from dartvc.cli.app import _ROOMS, application


def test_every_verb_stands_in_the_room_that_registers_it() -> None:
    assert set(application().commands) == {verb for verbs in _ROOMS.values() for verb in verbs}
    for room, verbs in _ROOMS.items():
        assert set(application(room).commands) == set(verbs)
