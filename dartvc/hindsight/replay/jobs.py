"""What a replaying process is told, and what it answers: two files in its scratch folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Answer", "Job"]

_JOB, _ANSWER, _RECORDS, _ATTACHED = "job.json", "answer.json", "records.jsonl", "attached"


@dataclass(frozen=True, slots=True)
class Job:
    """One stretch of a run to execute.

    Attributes:
        repository: the folder of the project that the repository belongs to.
        commit: where the stretch begins.
        is_beginning: that commit is the run's first: the program starts anew.
        project: the scratch copy of the project.
        sources: the patched program, by path in the scratch copy.
        names: patterns of the names to keep; of other names what was recorded is kept for comparison.
    """

    repository: str
    commit: str
    is_beginning: bool
    project: str
    sources: Mapping[str, str] = field(repr=False)
    names: tuple[str, ...]

    def write(self, folder: Path) -> Path:
        """Writes it; returns the file."""
        path = folder / _JOB
        path.write_text(json.dumps(asdict(self)), encoding="utf-8", errors="surrogatepass")
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        """Reads one."""
        body = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
        return cls(**{**body, "names": tuple(body["names"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """How a stretch ended.

    Attributes:
        exit_code: of the program.
        error: the exception that ended it, as one line.
        refused: paths of the user's that it would have changed.
        seconds: how long the program ran.
        lines: its log records, as `dartvc.hindsight.records` writes them; empty when it logged nothing.
        attachments: values too large for a line, by name.
    """

    exit_code: int
    error: str
    refused: tuple[str, ...] = ()
    seconds: float = 0.0
    lines: bytes = field(default=b"", repr=False)
    attachments: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def write(self, folder: Path) -> None:
        """Writes it; whoever finds the answer finds all of it."""
        (folder / _RECORDS).write_bytes(self.lines)
        attached = folder / _ATTACHED
        attached.mkdir(exist_ok=True)
        for name, content in self.attachments.items():
            (attached / name).write_bytes(content)
        body = {"exit_code": self.exit_code, "error": self.error, "refused": self.refused, "seconds": self.seconds}
        (folder / (_ANSWER + ".new")).write_text(json.dumps(body))
        (folder / (_ANSWER + ".new")).rename(folder / _ANSWER)

    @classmethod
    def find(cls, folder: Path) -> Answer | None:
        """Reads one; None when the process ended without."""
        try:
            body = json.loads((folder / _ANSWER).read_text())
        except (OSError, ValueError):
            return None
        attachments = {path.name: path.read_bytes() for path in (folder / _ATTACHED).iterdir()}
        return cls(**{**body, "refused": tuple(body["refused"])}, lines=(folder / _RECORDS).read_bytes(), attachments=attachments)
