"""At every line event of a program: a forked child captures the stack, goes on from the capture alone, and must print what the program prints.

Run as ``python stepping.py PROGRAM [--watched]``; prints one JSON object: how many places were resumed, how many refused and why, and what went
wrong. Watched, the program runs as under `run --reuse`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
import types
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dartvc.history import Repository
from dartvc.lineage.reusing import Reuse
from dartvc.program.capture import CaptureError, Reader
from dartvc.program.resuming import Resumption
from dartvc.program.sources import Sources
from dartvc.program.stopping import iter_stack
from dartvc.program.watched import bindings_shown, is_trampoline, written_stack

FOLDER = tempfile.mkdtemp()
NAME = os.path.join(FOLDER, "program.py")


def watch(reader: Reader, module: types.ModuleType) -> Reuse:
    """Lets a program be watched as under `run --reuse`."""
    reuse = Reuse(Repository.init(Path(FOLDER)), reader.sources, module.__dict__, FOLDER, NAME)
    reuse.shelf.begin_reading_only()  # no thread of its own beside the forks
    reuse.install()
    reader.written = reuse.compiler.written
    return reuse


def main(path: str, is_watched: bool) -> None:
    sources = Sources()
    unit = sources.add(NAME, Path(path).read_text())
    reader = Reader(sources)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    reuse = watch(reader, module) if is_watched else None
    aside = reuse.witness.looking_away if reuse is not None else nullcontext
    code = reuse.compile(NAME, unit.text) if reuse is not None else unit.code
    outcomes: list[tuple[int, str, str]] = []

    def in_child(frame: types.FrameType) -> tuple[str, str]:
        reading, writing = os.pipe()
        with aside():
            child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                stack = written_stack(each for each in iter_stack(frame) if each.f_code.co_filename != __file__)
                frames = reader.capture(reversed(stack))
                with bindings_shown(stack):
                    Resumption(frames, reader, lambda name, file: file, lambda name: module.__dict__).run()
                answer = ["resumed", shown.getvalue()]
            except CaptureError as refusal:
                answer = ["refused", refusal.reason]
            except BaseException:
                answer = ["failed", traceback.format_exc(limit=-3)]
            with os.fdopen(writing, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        kind, details = json.loads(text) if text else ("died", "")
        return kind, details

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != NAME or is_trampoline(frame.f_code):
            return None
        if event == "line":
            outcomes.append((frame.f_lineno, *in_child(frame)))
        return trace

    shown, plain = io.StringIO(), sys.stdout
    sys.stdout = shown
    sys.settrace(trace)
    exec(code, module.__dict__)
    sys.settrace(None)
    sys.stdout = plain
    expected = shown.getvalue()
    wrong = [(line, kind, details) for line, kind, details in outcomes if kind in ("failed", "died") or (kind == "resumed" and details != expected)]
    reasons = Counter((line, details) for line, kind, details in outcomes if kind == "refused")
    json.dump(
        {
            "resumed": sum(kind == "resumed" for _, kind, _ in outcomes),
            "lines": sorted({line for line, kind, _ in outcomes if kind == "resumed"}),
            "refused": [[line, reason, count] for (line, reason), count in reasons.items()],
            "wrong": wrong,
        },
        plain,
    )


if __name__ == "__main__":
    main(sys.argv[1], "--watched" in sys.argv)
