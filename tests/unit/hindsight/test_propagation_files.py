"""Propagation between files: bytes, encodings, notebooks, folders, several old versions, answers, bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from dartvc.cli.entry import run
from dartvc.errors import UsageError
from dartvc.hindsight.propagation.cells import mask_magics
from dartvc.porcelain.propagating import propagate_files, propagate_folders, propagate_source, propagate_sources

NEW = 'import dartvc\nfor x in data:\n    err = f(x)\n    dartvc.log("err", err)\n    w = w - err\n'
OLD = "import dartvc\nfor x in data:\n    err = f(x)\n    w = w - err\n"
TWO_LOOPS = OLD + "print(w)\nfor x in data:\n    err = f(x)\n    w = w - err\n"


def command(*words: str) -> tuple[int, str, str]:
    """Runs one command line; returns exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    return run(["propagate", *words], stdout=out, stderr=err), out.getvalue(), err.getvalue()


def write(path: Path, data: str | bytes) -> str:
    """Writes a file and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def notebook(*cells: str) -> str:
    """Returns a notebook with code cells, and a text cell before them."""
    made: list[dict[str, object]] = [{"cell_type": "markdown", "metadata": {}, "source": ["# Größe\n"]}]
    made += [
        {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [], "source": text.splitlines(keepends=True)}
        for text in cells
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


def test_the_command_prints_the_patched_source(tmp_path: Path) -> None:
    assert command(write(tmp_path / "old.py", OLD), write(tmp_path / "new.py", NEW)) == (0, NEW, "")


def test_a_guess_is_refused_with_the_reason_and_the_way_to_answer(tmp_path: Path) -> None:
    old = write(tmp_path / "old.py", TWO_LOOPS)
    code, out, err = command(old, write(tmp_path / "new.py", NEW))
    assert code == 1
    assert out == TWO_LOOPS
    assert 'new.py:4: dartvc.log("err", err)' in err
    assert "line 2 or at line 6 of OLD" in err
    assert "--at 4:LINE" in err


def test_an_answer_decides(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old.py", TWO_LOOPS), write(tmp_path / "new.py", NEW)
    code, out, err = command(old, new, "--at", "4:7")
    assert (code, err) == (0, "")
    assert out == TWO_LOOPS[: -len("    w = w - err\n")] + '    dartvc.log("err", err)\n    w = w - err\n'


def test_an_answer_cannot_invent_a_variable(tmp_path: Path) -> None:
    new = NEW.replace('    dartvc.log("err", err)\n    w = w - err', '    grad = err * 2\n    dartvc.log("grad", grad)\n    w = w - grad')
    code, _, err = command(write(tmp_path / "old.py", OLD), write(tmp_path / "new.py", new), "--at", "5:3")
    assert code == 1
    assert "grad does not exist in OLD" in err


@pytest.mark.parametrize("answer", ["4", "a:b", "4:", "4:99"])
def test_a_bad_answer_is_named(tmp_path: Path, answer: str) -> None:
    code, _, err = command(write(tmp_path / "old.py", OLD), write(tmp_path / "new.py", NEW), "--at", answer)
    assert code == (1 if answer == "4:99" else 2)
    assert "line 99" in err or "is not NEW:OLD" in err


def test_nothing_to_do_is_said_and_is_no_failure(tmp_path: Path) -> None:
    path = write(tmp_path / "new.py", NEW)
    code, out, err = command(path, path)
    assert (code, out) == (0, NEW)
    assert "nothing to propagate" in err


def test_a_log_that_stands_there_with_another_value_stays_and_is_named(tmp_path: Path) -> None:
    old = NEW.replace('"err", err', '"err", err * 2')
    code, out, err = command(write(tmp_path / "old.py", old), write(tmp_path / "new.py", NEW))
    assert (code, out) == (0, old)
    assert "line 4 stays" in err
    assert 'new.py:4 logs something else there: dartvc.log("err", err)' in err


def test_json_names_places_and_reasons(tmp_path: Path) -> None:
    code, out, _ = command(write(tmp_path / "old.py", OLD), write(tmp_path / "new.py", NEW), "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["schema"] == "dvc-state/propagate/1"
    assert answer["items"][0]["text"] == NEW
    assert answer["items"][0]["placed"] == [{"new_line": 4, "old_line": 3, "text": 'dartvc.log("err", err)'}]


def test_carriage_returns_stay_and_are_used(tmp_path: Path) -> None:
    patched = propagate_files([write(tmp_path / "old.py", OLD.replace("\n", "\r\n"))], write(tmp_path / "new.py", NEW))
    assert patched[0].data == NEW.replace("\n", "\r\n").encode()


def test_a_byte_order_mark_and_a_declared_encoding_stay(tmp_path: Path) -> None:
    new = write(tmp_path / "new.py", NEW)
    marked = propagate_files([write(tmp_path / "marked.py", b"\xef\xbb\xbf" + OLD.encode())], new)
    assert marked[0].data == b"\xef\xbb\xbf" + NEW.encode()
    head = "# -*- coding: latin-1 -*-\n# Größe\n"
    latin = propagate_files([write(tmp_path / "latin.py", (head + OLD).encode("latin-1"))], new)
    assert latin[0].data == (head + NEW).encode("latin-1")


def test_a_character_that_the_old_encoding_lacks_is_named(tmp_path: Path) -> None:
    old = write(tmp_path / "old.py", b"# coding: latin-1\n" + OLD.encode())
    with pytest.raises(UsageError, match="'✓'"):
        propagate_files([old], write(tmp_path / "new.py", NEW.replace('"err"', '"err ✓"')))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"print 'old'\n", "not Python that this interpreter reads"),
        (b"x = 1\0\n", "not Python"),
        (b"\xff\xfe\n", "cannot be read as Python source"),
    ],
)
def test_what_is_no_python_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    code, out, err = command(write(tmp_path / "old.py", data), write(tmp_path / "new.py", NEW))
    assert (code, out) == (2, "")
    assert reason in err
    assert "old.py" in err


def test_a_missing_file_and_a_broken_notebook_are_named(tmp_path: Path) -> None:
    new = write(tmp_path / "new.py", NEW)
    code, _, err = command(str(tmp_path / "none.py"), new)
    assert code == 2
    assert "none.py cannot be read" in err
    code, _, err = command(write(tmp_path / "old.ipynb", "{}"), new)
    assert code == 2
    assert "old.ipynb is not a notebook" in err


def test_empty_files_are_files(tmp_path: Path) -> None:
    assert propagate_source("", "").text == ""
    done = propagate_source("", NEW)
    assert done.text == ""
    assert len(done.refusals) == 1


def test_many_old_versions_are_patched_in_one_pass(tmp_path: Path) -> None:
    olds = [OLD.replace("err", name) for name in ("err", "residual", "delta")]
    texts = [each.text for each in propagate_sources(olds, NEW)]
    assert texts == [NEW.replace("err", name).replace(f'"{name}"', '"err"') for name in ("err", "residual", "delta")]
    paths = [write(tmp_path / f"v{number}" / "train.py", old) for number, old in enumerate(olds)]
    new = write(tmp_path / "train.py", NEW)
    assert command(*paths, new)[0] == 2
    code, out, _ = command("-o", str(tmp_path / "patched"), *paths, new)
    assert (code, out) == (0, "")
    assert sorted(path.read_text() for path in (tmp_path / "patched").rglob("*.py")) == sorted(texts)


def test_folders_are_patched_file_by_file_and_renamed_files_are_found(tmp_path: Path) -> None:
    write(tmp_path / "old" / "fit.py", OLD)
    write(tmp_path / "old" / "model" / "net.py", "def net(x):\n    y = x * 2\n    return y\n")
    write(tmp_path / "old" / "plot.py", "print(1)\n")
    write(tmp_path / "new" / "train.py", NEW)
    write(tmp_path / "new" / "model" / "net.py", 'import dartvc\ndef net(x):\n    y = x * 2\n    dartvc.log("y", y)\n    return y\n')
    write(tmp_path / "new" / "plot.py", "print(1)\n")
    patched = propagate_folders(str(tmp_path / "old"), str(tmp_path / "new"))
    assert {each.path: each.data.decode() for each in patched} == {
        "fit.py": NEW,
        str(Path("model", "net.py")): 'import dartvc\ndef net(x):\n    y = x * 2\n    dartvc.log("y", y)\n    return y\n',
    }


def test_a_notebook_keeps_everything_but_the_cells_that_get_a_log(tmp_path: Path) -> None:
    first, last = "%matplotlib inline\nimport dartvc\nfiles = !ls\ndata = load()", "print(w)?\nw"
    loop = "%%time\nfor x in data:\n    err = f(x)\n"
    old = write(tmp_path / "old.ipynb", notebook(first, loop + "    w = w - err", last))
    new = write(tmp_path / "new.ipynb", notebook(first, loop + '    dartvc.log("err", err)\n    w = w - err', last, "dartvc.log('w', w)"))
    patched = propagate_files([old], new)[0]
    wanted = notebook(first, loop + '    dartvc.log("err", err)\n    w = w - err', last)
    assert patched.data.decode() == wanted.replace('"print(w)?\\n",\n    "w"', '"print(w)?\\n",\n    "w\\n",\n    "dartvc.log(\'w\', w)"')


def test_a_notebook_takes_the_logs_of_a_script(tmp_path: Path) -> None:
    old = write(tmp_path / "old.ipynb", notebook("import dartvc", "for x in data:\n    err = f(x)\n    w = w - err"))
    patched = propagate_files([old], write(tmp_path / "new.py", NEW))[0]
    assert not patched.propagation.refusals
    assert patched.data.decode() == notebook("import dartvc", 'for x in data:\n    err = f(x)\n    dartvc.log("err", err)\n    w = w - err')


@pytest.mark.parametrize(
    "cell",
    [
        "%time f()",
        "!a",
        "if x:\n    %timeit f()\ny",
        "x = %sql select 1\nx",
        "f?",
        "%%bash\nfor i in *; do echo $i; done",
        'print("""\n% no magic\n""")',
        "def (",
        "",
    ],
)
def test_magics_are_hidden_character_for_character(cell: str) -> None:
    masked = mask_magics(cell)
    compile(masked, "cell", "exec")
    assert [len(line) for line in masked.split("\n")] == [len(line) for line in cell.split("\n")]


def test_the_mapping_pairs_the_lines_of_equal_statements() -> None:
    assert propagate_source(OLD, NEW).pairs == ((1, 1), (2, 2), (3, 3), (4, 5))


def test_2000_lines_are_analysed_once_for_several_versions() -> None:
    body = "".join(f"def f{n}(x):\n    y = x * {n}\n    z = y + {n}\n    return z\n" for n in range(500))
    new = "import dartvc\n" + body.replace("    z = y + 499\n", '    z = y + 499\n    dartvc.log("z", z)\n')
    for done in propagate_sources(["import dartvc\n" + body, "import dartvc\n" + body.replace("y", "why")], new):
        assert not done.refusals
        assert done.text.count("dartvc.log") == 1


def test_expressions_nested_without_end_are_named_not_crashed_on(tmp_path: Path) -> None:
    deep = "x = " + " + ".join(["y"] * 3000) + "\n"
    code, _, err = command(write(tmp_path / "old.py", OLD), write(tmp_path / "new.py", NEW + deep))
    assert code == 2
    assert "new.py" in err
