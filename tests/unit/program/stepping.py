"""At every line event of a program: a forked child captures the stack, goes on from the capture alone, and must print what the program prints.

Run as ``python stepping.py PROGRAM``; prints one JSON object: how many places were resumed, how many refused and why, and what went wrong.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
import types
from collections import Counter
from pathlib import Path
from typing import Any

from dartvc.program.capture import CaptureError, Reader
from dartvc.program.resuming import Resumption
from dartvc.program.sources import Sources
from dartvc.program.stopping import iter_stack

NAME = "program.py"


def main(path: str) -> None:
    sources = Sources()
    unit = sources.add(NAME, Path(path).read_text())
    reader = Reader(sources)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    outcomes: list[tuple[int, str, str]] = []

    def in_child(frame: types.FrameType) -> tuple[str, str]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                stack = [each for each in iter_stack(frame) if each.f_code.co_filename != __file__]
                frames = reader.capture(reversed(stack))
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
        if frame.f_code.co_filename != NAME:
            return None
        if event == "line":
            outcomes.append((frame.f_lineno, *in_child(frame)))
        return trace

    shown, plain = io.StringIO(), sys.stdout
    sys.stdout = shown
    sys.settrace(trace)
    exec(unit.code, module.__dict__)
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
    main(sys.argv[1])
