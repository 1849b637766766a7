"""Programs executed over items: what their names were made of."""

from __future__ import annotations

import ast
import textwrap

import pytest

from dartvc.lineage.traces.differences import find_differences
from dartvc.lineage.traces.expressions import Surroundings
from dartvc.lineage.traces.items import CALL, FILE, LOOP, LineageItem, iter_items
from dartvc.lineage.traces.statements import Source
from dartvc.lineage.traces.tracer import Tracer


class Ways:
    """Outcomes by line."""

    def __init__(self, known: dict[int, frozenset[int]]) -> None:
        self.known = known

    def outcomes(self, file: str, node: ast.stmt) -> frozenset[int] | None:
        return self.known.get(node.lineno)

    def note(self, file: str, node: ast.stmt) -> str:
        return "3 turns" if node.lineno in self.known else ""


def source(text: str, file: str = "program.py") -> Source:
    """Returns a program."""
    plain = textwrap.dedent(text).strip() + "\n"
    return Source(file, ast.parse(plain), plain.splitlines())


def traced(
    text: str, surroundings: Surroundings | None = None, ways: dict[int, frozenset[int]] | None = None, modules: dict[str, Source] | None = None
) -> Tracer:
    """Returns the trace of a program."""
    tracer = Tracer(surroundings or Surroundings(), Ways(ways or {}), (modules or {}).get)
    tracer.run(source(text))
    return tracer


def item(tracer: Tracer, name: str) -> LineageItem:
    """Returns the item of a name."""
    found = tracer.value(name)
    assert found is not None
    return found


def lines(tracer: Tracer, name: str) -> set[int]:
    """Returns the lines that a name was made on."""
    return {each.step.place.line for each in iter_items(item(tracer, name)) if each.step is not None}


def opcodes(tracer: Tracer, name: str) -> set[str]:
    """Returns the operations behind a name."""
    return {each.opcode for each in iter_items(item(tracer, name))}


def test_an_item_has_an_operation_its_inputs_and_the_literals_of_the_statement() -> None:
    tracer = traced("import numpy as np\na = np.zeros(3)\nb = np.linalg.solve(a, 2, check=True)\n")
    made = item(tracer, "b")
    assert (made.opcode, made.literals) == ("numpy.linalg.solve", ("2", "check=True"))
    assert [(each.opcode, each.literals) for each in made.inputs] == [("numpy.zeros", ("3",))]


def test_equal_programs_have_equal_digests_and_a_literal_changes_those_behind_it_alone() -> None:
    text = "import numpy as np\nx = np.ones(2)\ny = x * {}\nz = np.sin(x)\n"
    one, same, other = traced(text.format(2)), traced("# a comment\n" + text.format(2)), traced(text.format(3))
    assert item(one, "y").digest == item(same, "y").digest != item(other, "y").digest
    assert item(one, "z").digest == item(other, "z").digest


def test_what_an_alias_changes_is_changed_under_the_other_name() -> None:
    tracer = traced("a = [1]\nb = a\nb.append(2)\nc = len(a)\nd = [3]\n")
    assert lines(tracer, "c") == {1, 3, 4}
    assert lines(tracer, "d") == {5}


def test_what_is_written_into_a_view_is_written_into_the_array() -> None:
    tracer = traced("import numpy as np\nx = np.zeros(4)\nv = x[1:]\nv[0] = 7\ny = x.sum()\n")
    assert 4 in lines(tracer, "y")


def test_a_call_is_one_item_outside_and_its_statements_inside() -> None:
    tracer = traced("def f(x, k=2):\n    y = x * k\n    return y + 1\na = 5\nb = f(a)\nc = f(3)\n")
    made = item(tracer, "b")
    assert made.opcode == CALL and made.inner is not None
    assert [each.step.place.line for each in made.inputs if each.step is not None] == [1, 4]  # the default, the argument
    assert {2, 3} <= lines(tracer, "b")
    assert 4 not in lines(tracer, "c")


def test_fused_operations_have_their_parts_in_them() -> None:
    made = item(traced("import numpy as np\na = np.ones((2, 3))\nb = np.einsum('ij,ij->i', a, a)\n"), "b")
    assert made.opcode == "numpy.einsum" and made.inner is not None
    assert [(each.opcode, each.literals) for each in iter_items(made) if each.opcode in ("sum", "*")] == [("sum", ("over j",)), ("*", ("ij,ij",))]
    vectorised = traced("import numpy as np\ndef f(x):\n    return x * 3\ng = np.vectorize(f)\ny = g(np.arange(4))\n")
    assert {3, 4, 5} <= lines(vectorised, "y")


def test_a_loop_is_one_item_with_what_it_carries_from_turn_to_turn() -> None:
    tracer = traced("a, b, c = 1, 2, 3\nfor i in range(10):\n    c = b\n    b = a\n    a = a + i\nd = 4\n")
    made = next(each for each in iter_items(item(tracer, "c")) if each.opcode == LOOP)
    assert made.inner is not None
    assert lines(tracer, "c") == {1, 2, 5}
    assert lines(tracer, "d") == {6}


def test_ways_that_were_not_taken_are_left_out() -> None:
    text = "import math\nx = 1.0\nif x > 2:\n    y = math.sin(x)\nelse:\n    y = math.cos(x)\n"
    assert {"math.sin", "math.cos"} <= opcodes(traced(text), "y")
    assert "math.sin" not in opcodes(traced(text, ways={3: frozenset({0})}), "y")


def test_the_turns_of_a_loop_are_part_of_its_item() -> None:
    tracer = traced("x = 0\nfor i in range(3):\n    x += i\n", ways={2: frozenset({0, 1})})
    assert next(each.note for each in iter_items(item(tracer, "x")) if each.opcode == LOOP) == "3 turns"


def test_files_are_found_by_the_paths_that_the_code_names() -> None:
    files = {"data/a.csv": "11", "b.json": "22"}
    tracer = traced(
        "import os\nimport pandas as pd\nfrom pathlib import Path\nfolder = 'data'\na = pd.read_csv(os.path.join(folder, 'a.csv'))\n"
        "b = pd.read_csv(Path(folder) / 'a.csv')\nc = open(f'{\"b\"}.json').read()\nd = open('b.json', 'w')\n",
        Surroundings(files),
    )
    for name, digest in (("a", "11"), ("b", "11"), ("c", "22")):
        assert [each.literals[1] for each in iter_items(item(tracer, name)) if each.opcode == FILE] == [digest], name
    assert FILE not in opcodes(tracer, "d")


@pytest.mark.parametrize(
    "write",
    [
        "a.to_csv('f.csv')",
        "a.to_csv(Path('.') / 'f.csv')",
        "Path('f.csv').write_text(str(a))",
        "with open('f.csv', 'w') as out:\n    json.dump(list(a), out)",
        "with open('f.csv', mode='w') as out:\n    csv.writer(out).writerow(a)",
        "def save(it, path):\n    with open(path, 'w') as out:\n        out.write(str(it))\nsave(a, 'f.csv')",
        "for name in ('e.csv', 'f.csv'):\n    a.to_csv(name)",
        "a.to_csv('e.csv')\nos.replace('e.csv', 'f.csv')",
    ],
)
def test_what_a_program_reads_of_its_own_files_was_made_of_what_it_wrote_there(write: str) -> None:
    given = "import csv, json, os\nimport pandas as pd\nfrom pathlib import Path\na = pd.Series([1])\nb = pd.Series([2])\n"
    text = f"{given}{write}\nb.to_csv('g.csv')\nc = pd.read_csv('f.csv')\n"
    last = text.count("\n")
    tracer = traced(text, Surroundings({"f.csv": "11"}, {"e.csv": "e.csv", "f.csv": "f.csv", "g.csv": "g.csv"}))
    assert {4, last - 2, last} <= lines(tracer, "c") and not {5, last - 1} & lines(tracer, "c")
    assert FILE not in opcodes(tracer, "c")


def test_a_file_that_nothing_is_seen_to_write_is_a_file_though_the_program_wrote_it() -> None:
    tracer = traced("import subprocess\nsubprocess.run(['make'])\nc = open('f.csv').read()\n", Surroundings({"f.csv": "11"}, {"f.csv": "f.csv"}))
    assert [each.literals for each in iter_items(item(tracer, "c")) if each.opcode == FILE] == [("f.csv", "11")]


def test_a_file_that_is_read_and_written_anew_was_there_before() -> None:
    text = "n = int(open('n.txt').read())\nm = n + 1\nopen('n.txt', 'w').write(str(m))\nk = open('n.txt').read()\n"
    tracer = traced(text, Surroundings({"n.txt": "11"}, {"n.txt": "n.txt"}))
    assert FILE in opcodes(tracer, "n") and lines(tracer, "n") == {1}
    assert lines(tracer, "k") == {1, 2, 3, 4}


def test_random_streams_begin_at_their_seeds_and_are_drawn_from_in_order() -> None:
    tracer = traced("import numpy as np\nnp.random.seed(7)\na = np.random.rand(2)\nb = np.random.rand(2)\n")
    assert lines(tracer, "b") == {2, 3, 4}
    unseeded = traced("import random\na = random.random()\n")
    assert "stream" in opcodes(unseeded, "a")


def test_training_goes_from_the_loss_through_the_optimizer_into_the_model() -> None:
    tracer = traced("""
        import torch
        from torch import nn
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(3, 1)
            def forward(self, x):
                return self.layer(x)
        torch.manual_seed(1)
        net = Net()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        for step in range(3):
            x = torch.randn(4, 3)
            loss = net(x).sum()
            loss.backward()
            optimizer.step()
        weights = net.layer.weight
        """)
    assert {6, 9, 11, 13, 14, 15, 16} <= lines(tracer, "weights")


def test_classes_of_the_program_are_followed_through_super_properties_and_fields() -> None:
    helpers = source(
        """
        class Base:
            def __init__(self, data):
                self.data = data
        class Model(Base):
            def __init__(self, data, rate):
                super().__init__(data)
                self.rate = rate
            @property
            def scaled(self):
                return self.data * self.rate
        """,
        "helpers.py",
    )
    tracer = traced("from helpers import Model\nd = [1]\nr = 3\nm = Model(d, r)\ns = m.scaled\nt = m.rate\n", modules={"helpers": helpers})
    files = {(each.step.place.file, each.step.place.line) for each in iter_items(item(tracer, "s")) if each.step is not None}
    assert {("helpers.py", 10), ("program.py", 2), ("program.py", 3)} <= files
    assert lines(tracer, "t") == {3, 6} or lines(tracer, "t") == {3}


def test_functions_in_a_table_are_all_candidates_of_a_call_through_it() -> None:
    tracer = traced("def f(x):\n    return x + 1\ndef g(x):\n    return x * 2\ntable = {'f': f, 'g': g}\nname = input()\ny = table[name](3)\nz = table['f'](3)\n")
    assert {2, 4} <= lines(tracer, "y")
    assert 4 not in lines(tracer, "z")
    assert "terminal" in opcodes(tracer, "y")


@pytest.mark.parametrize(
    ("call", "kind"),
    [("time.time()", "clock"), ("os.environ['HOME']", "environment"), ("os.urandom(4)", "entropy"), ("sys.argv[1]", "command line"), ("os.listdir('.')", "file system")],
)
def test_what_was_asked_of_the_world_outside_is_named(call: str, kind: str) -> None:
    assert kind in opcodes(traced(f"import os, sys, time\nx = {call}\n", Surroundings(argv=("run.py", "5"))), "x")


def test_settings_of_the_run_are_in_place_of_their_defaults() -> None:
    text = "import dartvc\nlr = dartvc.arg('lr', 0.1)\nstep = lr * 2\n"
    given = item(traced(text, Surroundings(arguments={"lr": "0.5"})), "step")
    assert [each.literals for each in iter_items(given) if each.opcode == "setting"] == [("lr=0.5",)]
    assert "setting" not in opcodes(traced(text), "step")


def test_two_traces_part_at_the_first_item_that_differs() -> None:
    text = "import numpy as np\nrng = np.random.default_rng({})\nx = rng.normal(size=3)\ny = x * {}\nz = y + x\n"
    one, other = traced(text.format(1, 5)), traced(text.format(2, 5))
    found = find_differences(item(one, "z"), item(other, "z"))
    assert [(each.what, each.one.opcode if each.one else "", each.one.literals if each.one else ()) for each in found] == [
        ("literals", "numpy.random.default_rng", ("1",))
    ]
    assert find_differences(item(one, "z"), item(traced(text.format(1, 5)), "z")) == []
    both = find_differences(item(one, "z"), item(traced(text.format(2, 6)), "z"))
    assert [each.one.literals for each in both if each.one] == [("1",), ("5",)]


def test_two_traces_part_where_a_call_was_added() -> None:
    one = traced("import numpy as np\nx = np.ones(3)\ny = x.sum()\n")
    other = traced("import numpy as np\nx = np.ones(3)\nx = np.log(x)\ny = x.sum()\n")
    found = find_differences(item(one, "y"), item(other, "y"))
    assert [(each.one.opcode, each.other.opcode) for each in found if each.one and each.other] == [("numpy.ones", "numpy.log")]


def test_deep_recursion_and_functions_that_call_each_other_end() -> None:
    tracer = traced("def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\nx = even(1000)\n")
    assert {2, 4, 5} <= lines(tracer, "x")


def test_a_program_of_many_nested_loops_is_traced_in_few_steps() -> None:
    text = "x = 0\n" + "".join(f"{'    ' * depth}for i{depth} in range(9):\n" for depth in range(7)) + "    " * 7 + "x += i0\n"
    assert item(traced(text), "x").opcode == LOOP
