"""Random programs go on from each of their statements, whether they are watched for reuse or not."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported

STEPPING = Path(__file__).parents[1] / "unit" / "program" / "stepping.py"
pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

HEAD = """
class Vector:
    def dot(self, other):
        return other + 1
q0 = Vector()
log = []
class Resource:
    def __enter__(self):
        return self
    def __exit__(self, *details):
        log.append("exit")
a = b = c = x = y = 1
"""


class Program:
    """Writes statements of all kinds, with calls of functions in all kinds of expressions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.functions: list[str] = []

    def text(self) -> str:
        parts = [HEAD]
        for name in ("f", "g"):
            body = "\n".join(["    a = b = c = x = y = 1", *self.block(1, 1, ["p", "q", "a"], in_loop=False)])
            parts.append(f"def {name}(p, q):\n{body}\n    return (p + 2 * q + a) % 89")
            self.functions.append(name)
        parts += ["\n".join(self.block(0, 2, ["a", "b"], in_loop=False)) for _ in range(3)]
        return "\n".join([*parts, "print(log[-40:], len(log), a, b, c, x, y)\n"])

    def expression(self, depth: int, names: list[str]) -> str:
        kind = self.random.randrange(6) if depth else 0
        if kind < 2:
            return self.random.choice([*names, str(self.random.randrange(6))])
        one, other = (self.expression(depth - 1, names) for _ in range(2))
        called = self.random.choice(self.functions) if self.functions else "max"
        return [f"({one} - {other})", f"{called}({one}, {other})", f"max({called}({one}, 1), q0.dot({other}))", f"[{called}({one}, 2), {other}][0]"][kind - 2]

    def block(self, indentation: int, depth: int, names: list[str], *, in_loop: bool) -> list[str]:
        made = [self.statement(depth, names, in_loop=in_loop) for _ in range(self.random.randint(1, 3))]
        return ["    " * indentation + line for statement in made for line in statement]

    def statement(self, depth: int, names: list[str], *, in_loop: bool) -> list[str]:
        def inside(*, loops: bool = in_loop, more: tuple[str, ...] = ()) -> list[str]:
            return ["    " + line for line in self.block(0, depth - 1, [*names, *more], in_loop=loops)]

        kind = self.random.randrange(9) if depth else self.random.randrange(2)
        if kind == 0:
            return [f"{self.random.choice('abcxy')} = {self.expression(2, names)} % 97"]
        if kind == 1:
            return [f"log.append(({self.expression(2, names)}, {self.expression(1, names)}))"]
        self.count += 1
        own = f"n{self.count}"
        if kind == 2:
            return [f"for {own} in (1, 2):", *inside(loops=True, more=(own,)), *self.maybe("else:", inside())]
        if kind == 3:
            return [f"{own} = 0", f"while {own} < 2:", f"    {own} += 1", *inside(loops=True), *self.maybe("else:", inside())]
        if kind == 4:
            return [f"{own} = 0", "while True:", f"    {own} += 1", *inside(loops=False), f"    if {own} > 1:", "        break"]
        if kind == 5:
            return [f"if {self.expression(1, names)} % 2:", *inside(), *self.maybe("else:", inside())]
        if kind == 6:
            raised = [f"    if {self.expression(1, names)} % 3:", "        raise KeyError(1)"]
            return ["try:", *inside(), *raised, "except KeyError:", *inside(), *self.maybe("else:", inside()), *self.maybe("finally:", ["    log.append(0)"])]
        if kind == 7:
            return ["with Resource():", *inside()]
        return [f"if {self.expression(1, names)} % 3 == 0:", f"    {self.random.choice(['break', 'continue']) if in_loop else 'pass'}"]

    def maybe(self, head: str, body: list[str]) -> list[str]:
        return [head, *body] if self.random.random() < 0.4 else []


@pytest.mark.parametrize("options", [[], ["--watched"]])
@pytest.mark.parametrize("seed", [8, 14, 18])
def test_a_random_program_goes_on_from_each_statement(tmp_path: Path, seed: int, options: list[str]) -> None:
    program = tmp_path / "program.txt"
    program.write_text(Program(seed).text())
    done = subprocess.run([sys.executable, str(STEPPING), str(program), *options], capture_output=True, text=True, check=True, timeout=300)
    outcome = json.loads(done.stdout)
    assert outcome["wrong"] == []
    assert outcome["resumed"] > (0 if options else 20)
