"""What all tests share: a home folder of their own, so that no test sees or touches the keys and settings of whoever runs it."""

from __future__ import annotations

import contextvars
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("project", COMMON, derandomize=True)  # the same examples in every run: what passed passes again
settings.register_profile("explore", COMMON)  # new examples in each run: pytest --hypothesis-profile explore
settings.load_profile("project")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in its background so
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Points HOME and what hangs on it to a folder of this test run, for this process and those that it starts."""
    home = tmp_path_factory.mktemp("home")
    own = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "IPYTHONDIR": str(home / ".ipython"),
        "MPLBACKEND": "Agg",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        yield home


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Runs each test in a context of its own: context variables that one leaves set (NumPy's, IPython's) are no part of another's tasks."""
    wanted = pyfuncitem._fixtureinfo.argnames
    contextvars.Context().run(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in wanted})
    return True
