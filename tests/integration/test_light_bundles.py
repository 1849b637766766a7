"""Bundles that carry only what is cheaper to carry than to compute: made from real sessions, opened by another machine's user."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from dartvc.cli.entry import run
from dartvc.errors import UntrustedError
from dartvc.history import Repository
from dartvc.model import Oid
from dartvc.porcelain.carrying import Bandwidth, PlannedValue, TransferPlan, bandwidth_of, lighten, plan_transfer
from dartvc.porcelain.exchange import bundle_create, clone, fetch
from dartvc.sessions import Session

SLOW = Bandwidth(1.0, "given")
FAST = Bandwidth(1e15, "given")


def record(folder: Path, cells: Sequence[str], *, seconds: float = 0.01) -> Repository:
    """Runs cells as a session does; returns the repository, whose branch is main."""
    repository = Repository.init(folder)
    namespace: dict[str, object] = {"__name__": "__main__"}
    session = Session(repository, namespace)
    for number, code in enumerate(cells, 1):
        session.begin_unit()
        error = ""
        try:
            exec(compile(code, f"<ipython-input-{number}>", "exec"), namespace)
        except Exception as raised:
            error = type(raised).__name__
        session.end_unit(code, source=code, execution=number, error=error, duration_s=seconds)
    session.flush()
    session.close()
    return repository


def tip(repository: Repository) -> Oid:
    return repository.resolve("main")


def value_of(plan: TransferPlan, name: str) -> PlannedValue:
    return next(value for value in plan.values if name in value.names)


def sent(repository: Repository, folder: Path, revision: str = "main", bandwidth: Bandwidth = SLOW, *, is_tried: bool = True) -> Repository:
    """Bundles lightly and clones the bundle."""
    file = folder / "light.bundle"
    made = bundle_create(
        repository,
        file,
        [revision],
        head="main",
        lighten=lambda oid, known: lighten(repository, oid, bandwidth, base=known[0] if known else None, is_tried=is_tried)[0],
    )
    assert made.size_bytes == file.stat().st_size
    return Repository.open(clone(str(file), "there", base=folder, trust=True).root)


def restored(repository: Repository, namespace: dict[str, object] | None = None) -> tuple[dict[str, object], Session]:
    namespace = {"__name__": "__main__"} if namespace is None else namespace
    return namespace, Session(repository, namespace, is_shared=False)


def test_what_is_cheaper_to_compute_is_left_out_and_comes_back_equal(tmp_path: Path) -> None:
    cells = [
        "n = 20000",
        "def twice(x):\n    return [x, x * n]",
        "big = [twice(i) for i in range(n)]",
        "other = big[:]\nother.append(other[0])",
        "n = 3",
    ]
    source = record(tmp_path / "here", cells)
    plan = plan_transfer(source, tip(source), SLOW)
    assert value_of(plan, "big").way == "compute" and value_of(plan, "twice").way == "carry"
    there = sent(source, tmp_path)
    assert (tmp_path / "light.bundle").stat().st_size < 40_000
    namespace, session = restored(there)
    report = session.restore(tip(there), trust=True)
    assert report.omissions == () and {"big", "other"} <= set(report.recomputed)
    big, other = namespace["big"], namespace["other"]
    assert isinstance(big, list) and isinstance(other, list)
    assert big == [[i, i * 20000] for i in range(20000)]
    assert other[:-1] == big and other[-1] is other[0] is big[0]
    assert namespace["n"] == 3
    assert session.load(tip(there), ["big"], trust=True)["big"] == big


def test_random_streams_are_taken_from_where_they_were(tmp_path: Path) -> None:
    random.seed(11)
    source = record(
        tmp_path / "here",
        ["import random", "first = [random.random() for _ in range(3000)]", "then = [random.gauss(0, 1) for _ in range(3000)]"],
    )
    state = random.getstate()
    there = sent(source, tmp_path)
    assert random.getstate() == state
    namespace, session = restored(there)
    report = session.restore(tip(there), names=["first", "then"], trust=True)
    assert set(report.recomputed) == {"first", "then"} and report.omissions == ()
    assert random.getstate() == state
    random.seed(11)
    assert namespace["first"] == [random.random() for _ in range(3000)]


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("import time\nbad = [time.time()] * 9000", "reads the clock"),
        ("bad = open('/etc/hostname').read() * 9000", "opens a file"),
        ("import numpy as np\nbad = list(np.random.default_rng().random(9000))", "draws entropy"),
        ("bad = list(range(9000))\nraise ValueError", "ended with an error"),
        ("import subprocess\nbad = [subprocess.run] * 9000", "reaches outside"),
        ("bad = sorted(globals()) * 900", "globals"),
        ("bad = [id(object())] * 9000", "uses id()"),
        ("%time bad = 1", "no plain Python"),
    ],
)
def test_what_depends_on_the_world_outside_is_carried(tmp_path: Path, cell: str, why: str) -> None:
    if "numpy" in cell:
        pytest.importorskip("numpy")
    source = record(tmp_path / "here", ["bad = 0", cell])
    plan = plan_transfer(source, tip(source), SLOW)
    assert value_of(plan, "bad").way == "carry" or cell.startswith("%")
    if not cell.startswith("%"):
        assert why in value_of(plan, "bad").reason


def test_what_does_not_come_out_the_same_is_found_by_trying_and_carried(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("7" * 9000)
    cells = [
        "from pathlib import Path\nimport builtins",
        f"hidden = getattr(builtins, 'op' + 'en')({str(tmp_path / 'data.txt')!r}).read()",
        "counter = getattr(builtins, 'i' + 'd')(builtins.object()) * 10 ** 5000",
        "fine = list(range(9000))",
    ]
    source = record(tmp_path / "here", cells)
    _, plan = lighten(source, tip(source), SLOW)
    assert value_of(plan, "hidden").way == "carry" and "read the file" in value_of(plan, "hidden").reason
    assert value_of(plan, "counter").way == "carry"
    assert value_of(plan, "fine").way == "compute"
    assert plan.is_tried and plan.total_s <= plan.all_carried_s


def test_a_value_that_comes_out_otherwise_is_reported_and_not_passed_off(tmp_path: Path) -> None:
    source = record(tmp_path / "here", ["import math", "table = [math.sqrt(i) for i in range(9000)]"])
    there = sent(source, tmp_path)
    real = __import__("math").sqrt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("math.sqrt", lambda x: real(x) + 1e-12)  # another version of a library
        _, session = restored(there)
        report = session.restore(tip(there), names=["table"], trust=True)
    assert [omission.reason for omission in report.omissions] == ["computed here, but it differs from what was committed"]
    assert "table" not in session.load(tip(there), trust=True) or report.omissions


def test_a_cell_that_fails_there_is_named(tmp_path: Path) -> None:
    source = record(tmp_path / "here", ["import math", "table = [math.sqrt(i) for i in range(9000)]", "keep = 1"])
    there = sent(source, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("math.sqrt")
        namespace, session = restored(there)
        report = session.restore(tip(there), trust=True)
    assert any("its cell raises AttributeError" in omission.reason for omission in report.omissions)
    assert namespace["keep"] == 1 and "table" not in namespace


def test_a_fast_way_carries_everything(tmp_path: Path) -> None:
    source = record(tmp_path / "here", ["big = list(range(50000))"], seconds=5.0)
    there = sent(source, tmp_path, bandwidth=FAST)
    namespace, session = restored(there)
    assert session.restore(tip(there), trust=True).recomputed == ()
    assert namespace["big"] == list(range(50000))


def test_an_old_value_is_carried_where_that_is_cheaper_than_to_make_it(tmp_path: Path) -> None:
    repository = record(tmp_path / "here", ["seedling = sum(i * i for i in range(100))"], seconds=1e6)
    session = Session(repository, namespace := {"__name__": "__main__", "seedling": sum(i * i for i in range(100))})
    for code in ("big = [seedling] * 200 + list(range(30000))", "seedling = None"):
        session.begin_unit()
        exec(code, namespace)
        session.end_unit(code, source=code, execution=2, error="", duration_s=0.01)
    session.flush()
    session.close()
    _, plan = lighten(repository, tip(repository), Bandwidth(1000.0, "given"))
    old = next(value for value in plan.values if value.reason.startswith("an old value"))
    assert old.names == ("seedling",) and value_of(plan, "big").way == "compute"
    there = sent(repository, tmp_path, bandwidth=Bandwidth(1000.0, "given"))
    restored_names, again = restored(there)
    assert again.restore(tip(there), trust=True).omissions == ()
    assert restored_names["big"] == namespace["big"] and restored_names["seedling"] is None


def test_what_the_other_side_has_costs_nothing(tmp_path: Path) -> None:
    source = record(tmp_path / "here", ["big = list(range(50000))", "small = len(big)"])
    base = source.commit(tip(source)).parents[0]
    plan = plan_transfer(source, tip(source), SLOW, base=base)
    assert value_of(plan, "big").way == "there" and value_of(plan, "big").carry_s == 0
    there = Repository.open(clone(str(tmp_path / "here"), "there", base=tmp_path, trust=True).root)
    bundle_create(
        source, tmp_path / "rest.bundle", [f"{base}..main"], lighten=lambda oid, known: lighten(source, oid, SLOW, base=known[0])[0]
    )
    from dartvc.remotes import Remotes

    Remotes(there).add("file", str(tmp_path / "rest.bundle"))
    fetch(there, "file", trust=True)
    light = there.resolve("file/main")
    assert there.commit(light).parents == (base,)
    namespace, session = restored(there)
    assert session.restore(light, trust=True).omissions == ()
    assert namespace["small"] == 50000


def test_the_next_commit_stores_what_was_computed(tmp_path: Path) -> None:
    source = record(tmp_path / "here", ["big = list(range(9000))"])
    there = sent(source, tmp_path)
    namespace, session = restored(there)
    session.restore(tip(there), trust=True)
    session.checkpoint("stored", force=True)
    assert there.names(session.head or tip(there))["big"].payload_oid is not None
    assert namespace["big"] == list(range(9000))


def test_a_stranger_s_commit_is_planned_but_not_tried(tmp_path: Path) -> None:
    record(tmp_path / "here", ["big = list(range(9000))"])
    stranger = Repository.open(tmp_path / "here", key_path=tmp_path / "other", trust_path=tmp_path / "none")
    assert value_of(plan_transfer(stranger, tip(stranger), SLOW), "big").way == "compute"
    with pytest.raises(UntrustedError):
        lighten(stranger, tip(stranger), SLOW)


def test_a_run_s_values_are_carried(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path / "here")
    namespace: dict[str, object] = {"__name__": "__main__", "big": list(range(9000))}
    session = Session(repository, namespace)
    from dartvc.model import CommitKind

    session.commit_run({}, "exit 0", CommitKind.END, code="big = list(range(9000))", process=list, run="r1", position=None)
    session.flush()
    session.close()
    assert "made by a run" in value_of(plan_transfer(repository, tip(repository), SLOW), "big").reason


def test_the_command_line_shows_plans_and_writes_light_bundles(tmp_path: Path) -> None:
    source = record(tmp_path / "here", ["big = list(range(9000))"], seconds=0.001)

    def dvc(*words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        return run(words, stdout=out, stderr=err, directory=str(source.root)), out.getvalue(), err.getvalue()

    code, out, _ = dvc("bundle", "create", "x.bundle", "main", "--plan=show", "--bandwidth", "1kB/s")
    assert code == 0 and "compute  big" in out and not (source.root / "x.bundle").exists()
    code, out, err = dvc("bundle", "create", "--plan=auto", "--bandwidth", "1kB/s", "x.bundle", "main")
    assert code == 0 and "run again: In [1]" in err and (source.root / "x.bundle").exists()
    code, out, _ = dvc("bundle", "verify", "x.bundle")
    assert code == 0
    code, out, _ = dvc("checkout", "--plan", "main", "--json")
    assert code == 0 and json.loads(out)["schema"] == "dvc-state/checkout-plan/1"
    dvc("remote", "add", "origin", str(tmp_path / "elsewhere"))
    code, out, _ = dvc("push", "--plan", "--bandwidth", "100Mbit/s", "--json")
    assert code == 0 and json.loads(out)["items"][0]["values"][0]["names"] == ["big"]
    code, out, _ = dvc("clone", "--plan", str(source.root), "--bandwidth", "1kB/s")
    assert code == 0 and "compute  big" in out
    assert dvc("bundle", "create", "x.bundle", "main", "--plan=perhaps")[0] == 2
    assert dvc("bundle", "create", "x.bundle", "main", "--plan=show", "--bandwidth", "fast")[0] == 2


def test_bandwidths_are_read_measured_or_assumed(tmp_path: Path) -> None:
    assert bandwidth_of("20MB/s", None).bytes_per_s == 20e6
    assert bandwidth_of("100 Mbit/s", None).bytes_per_s == 12.5e6
    assert bandwidth_of("1GiB", None).bytes_per_s == 2**30
    assert bandwidth_of("", tmp_path).source == "measured" and not list(tmp_path.iterdir())
    assert bandwidth_of("", None).source == "assumed"
