"""Starting the processes that execute stretches: on this machine, or on the workers of a Dask cluster that see the same disk."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dartvc.errors import UsageError

__all__ = ["EXECUTORS", "Launcher", "LocalLauncher", "Started", "launcher"]

EXECUTORS = ("local", "dask")
_ENTRY = "from dartvc.shims.replaying import main; main()"


class Started(Protocol):
    """A process that executes a job."""

    def poll(self) -> int | None:
        """Returns its exit code; None while it works."""
        ...

    def end(self) -> None:
        """Ends it, and what it started."""
        ...


class Launcher(Protocol):
    """Starts processes."""

    def start(self, job: Path, environment: Mapping[str, str]) -> Started:
        """Starts one for a job's file; its standard error goes beside that."""
        ...


class _Process:
    def __init__(self, job: Path, environment: Mapping[str, str]) -> None:
        with (job.parent / "stderr").open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ENTRY, str(job)],
                cwd=job.parent,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class LocalLauncher:
    """Starts processes here."""

    def start(self, job: Path, environment: Mapping[str, str]) -> Started:
        """Starts one."""
        return _Process(job, environment)


def execute_here(job: str, environment: Mapping[str, str]) -> int:
    """Executes a job in a process of the machine that calls this, a Dask worker; returns its exit code.

    The process ends when the replay that asked for it has gone, which then removes the job's folder.
    """
    process = _Process(Path(job), environment)
    try:
        while (code := process.poll()) is None:
            if not Path(job).exists():
                return -signal.SIGKILL
            with contextlib.suppress(subprocess.TimeoutExpired):
                process._process.wait(0.2)
        return code
    finally:
        process.end()


class _Future:
    def __init__(self, future: Any) -> None:
        self._future = future

    def poll(self) -> int | None:
        if not self._future.done():
            return None
        return int(self._future.result()) if self._future.status == "finished" else 1

    def end(self) -> None:
        self._future.cancel()


class DaskLauncher:
    """Starts processes on Dask's workers.

    Args:
        client: of the cluster.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def start(self, job: Path, environment: Mapping[str, str]) -> Started:
        """Starts one."""
        return _Future(self._client.submit(execute_here, str(job), dict(environment), pure=False, retries=0))


@contextmanager
def launcher(name: str, processes: int) -> Iterator[Launcher]:
    """Gives what an executor's name means: ``local``; ``dask``: the cluster that Dask is configured for, else one of this machine.

    Raises:
        UsageError: there is no such executor, or Dask is not installed.
    """
    if name == "local":
        yield LocalLauncher()
        return
    if name != "dask":
        raise UsageError(f"there is no executor {name}", kind="executor", hint=f"--executor {' or '.join(EXECUTORS)}")
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise UsageError("Dask is not installed", kind="no-dask", hint=f"{sys.executable} -m pip install 'dartvc[dask]'") from None
    import dask

    if dask.config.get("scheduler-address", None):
        client = distributed.Client()
    else:
        client = distributed.Client(n_workers=processes, threads_per_worker=1, dashboard_address=None, processes=True)
    try:
        yield DaskLauncher(client)
    finally:
        client.close()
