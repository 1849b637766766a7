"""What is told of Python, the machine and the user without the modules that usually tell it."""

from __future__ import annotations

import getpass
import platform
import sys
import sysconfig

import pytest

from dartvc.host.machine import describe_python, user_name
from dartvc.host.places import is_library_file


def test_python_is_described_in_the_words_of_platform() -> None:
    expected = (platform.python_version(), platform.python_implementation(), sys.platform, platform.machine())
    assert tuple(describe_python().values()) == expected


@pytest.mark.parametrize("variables", [{"LOGNAME": "a", "USER": "b"}, {"USER": "b"}, {}])
def test_the_user_has_the_name_that_getpass_finds(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_name() == getpass.getuser()


@pytest.mark.parametrize("name", ["stdlib", "platstdlib"])
def test_what_lies_in_the_folders_of_the_standard_library_is_a_librarys(name: str) -> None:
    assert is_library_file(sysconfig.get_path(name) + "/something.py")
