"""``export``: what other tools read of a commit is what the program held."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path

import pytest

import dartvc
from dartvc.cli.entry import run


def call(folder: Path, *words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run(["-C", str(folder), *words], stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    state: dict[str, object] = {
        "array": np.arange(12.0).reshape(3, 4),
        "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "ü"]}),
        "history": [{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2}],
        "lr": 0.1,
        "bad": float("nan"),
        "pair": {(1, 2): "tuple keys are no JSON"},
        "objects": np.array([{}, None], dtype=object),
        "function": len,
    }
    dartvc.init(tmp_path).commit(state, "made")
    return tmp_path


def test_the_ending_of_the_file_says_how_a_variable_is_written(folder: Path) -> None:
    np = pytest.importorskip("numpy")
    for name, file in (("array", "a.npy"), ("frame", "f.csv"), ("history", "deep/h.json"), ("pair", "p.pkl")):
        assert call(folder, "export", "HEAD", name, "-o", file)[0] == 0
    assert (np.load(folder / "a.npy", allow_pickle=False) == np.arange(12.0).reshape(3, 4)).all()
    assert list(csv.reader((folder / "f.csv").open())) == [["a", "b"], ["1", "x"], ["2", "ü"]]
    assert json.loads((folder / "deep/h.json").read_text()) == [{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2}]
    assert pickle.loads((folder / "p.pkl").read_bytes()) == {(1, 2): "tuple keys are no JSON"}
    code, out, _ = call(folder, "export", "HEAD", "lr", "history", "array", "-o", "all.json", "--json")
    assert code == 0 and json.loads(out)["items"][0]["names"] == ["lr", "history", "array"]
    assert json.loads((folder / "all.json").read_text())["array"][2] == [8.0, 9.0, 10.0, 11.0]
    assert call(folder, "export", "HEAD", "array", "-o", "all.npz")[0] == 0
    assert list(np.load(folder / "all.npz")) == ["array"]


def test_a_folder_gets_a_file_for_each_variable_in_the_format_that_fits(folder: Path) -> None:
    code, out, err = call(folder, "export", "HEAD", "-o", "states/")
    assert code == 0, err
    names = {path.name for path in (folder / "states").iterdir()}
    table = {"frame.parquet", "frame.csv"} & names
    assert len(table) == 1
    assert names - table == {"array.npy", "history.json", "lr.json", "bad.pkl", "pair.pkl", "objects.pkl"}
    assert len(out.splitlines()) == len(names)


def test_what_a_format_cannot_hold_is_refused_and_the_file_stays_as_it_was(folder: Path) -> None:
    (folder / "a.json").write_text("before")
    for words in (
        ("bad", "-o", "a.json"),
        ("pair", "-o", "a.json"),
        ("frame", "-o", "a.npy"),
        ("objects", "-o", "a.npy"),
        ("lr", "frame", "-o", "a.csv"),
    ):
        code, _, err = call(folder, "export", "HEAD", *words)
        assert code == 2 and "error" in err, words
    assert call(folder, "export", "HEAD", "lr", "-o", "a.xlsx")[0] == 2
    assert call(folder, "export", "HEAD", "no_such", "-o", "a.json")[0] == 3
    assert (folder / "a.json").read_text() == "before"
    assert {path.name for path in folder.iterdir()} == {".dvc-state", "a.json"}
