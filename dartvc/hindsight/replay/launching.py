"""Starting the processes that execute stretches: on this machine, or on the workers of a Dask cluster that see the same disk."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dartvc.errors import UsageError
from dartvc.hindsight.replay.jobs import UNFIT, Exited

__all__ = ["EXECUTORS", "Launcher", "LocalLauncher", "Started", "launcher"]

EXECUTORS = ("local", "dask")
_ENTRY = "from dartvc.shims.replaying import main; main()"
_WARM_ENTRY = "from dartvc.shims.warming import main; main()"
Libraries = Sequence[tuple[str, str]]
"""What a program imports: modules, and names of them, which may be modules, too."""


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

    def start(self, job: Path, environment: Mapping[str, str], libraries: Libraries | None = None) -> Started:
        """Starts one for a job's file; its standard error goes beside that.

        Args:
            job: the file.
            environment: added to that of this process.
            libraries: what a process may have imported before it is told the job; None: it is started for the job.
        """
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


class _Warm:
    """A process that forks others, which have their libraries from it: `dartvc.shims.warming`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WARM_ENTRY],
            cwd=os.sep,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def ask(self, request: Mapping[str, object]) -> None:
        """Sends a request; one that cannot be sent is no error, since the process has ended then."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Ends it, and those that it forked."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


class _Forked:
    """A process that was forked for a job; one of its own takes its place where the job needs that."""

    def __init__(self, warm: _Warm, job: Path, environment: Mapping[str, str]) -> None:
        self._warm = warm
        self._job = job
        self._environment = environment
        self._own: _Process | None = None

    def poll(self) -> int | None:
        if self._own is not None:
            return self._own.poll()
        is_alive = self._warm.is_alive
        exited = Exited.find(self._job.parent)
        if exited is not None and exited.code != UNFIT:
            return exited.code
        if exited is not None or not is_alive:
            self._own = _Process(self._job, self._environment)
        return None

    def end(self) -> None:
        if self._own is not None:
            self._own.end()
        elif Exited.find(self._job.parent) is None:
            self._warm.ask({"job": str(self._job), "is_over": True})


class LocalLauncher:
    """Starts processes here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._warm: _Warm | None = None

    def start(self, job: Path, environment: Mapping[str, str], libraries: Libraries | None = None) -> Started:
        """Starts one."""
        if libraries is None or sys.platform != "linux":
            return _Process(job, environment)
        with self._lock:
            self._warm = self._warm or _Warm(environment)
        self._warm.ask({"job": str(job), "libraries": list(libraries)})
        return _Forked(self._warm, job, environment)

    def end(self) -> None:
        """Ends the process that forks others."""
        if self._warm is not None:
            self._warm.end()


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

    def start(self, job: Path, environment: Mapping[str, str], libraries: Libraries | None = None) -> Started:
        """Starts one."""
        return _Future(self._client.submit(execute_here, str(job), dict(environment), pure=False, retries=0))


@contextmanager
def launcher(name: str, processes: int) -> Iterator[Launcher]:
    """Gives what an executor's name means: ``local``; ``dask``: the cluster that Dask is configured for, else one of this machine.

    Raises:
        UsageError: there is no such executor, or Dask is not installed.
    """
    if name == "local":
        local = LocalLauncher()
        try:
            yield local
        finally:
            local.end()
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
