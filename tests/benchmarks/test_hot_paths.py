"""What a commit and a log spend their time on. Skipped unless asked for: ``pytest tests/benchmarks --benchmark-only``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dartvc
from dartvc.hindsight.recording import end_run
from dartvc.history import RefMove, Repository
from dartvc.model import CommitKind, Oid, StagedCommit
from dartvc.state.chunking import digest_buffers, match_stream
from dartvc.state.saving import Saving, save

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LOG_LENGTH = 10_000


@pytest.fixture
def records() -> list[dict[str, object]]:
    """200,000 small dicts: what the C pickler takes a tenth of a second for."""
    return [{"id": number, "name": f"row {number}", "value": number / 7} for number in range(200_000)]


@pytest.fixture(scope="module")
def long_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository whose main branch has 10,000 commits."""
    repository = Repository.init(tmp_path_factory.mktemp("long"))
    writer = repository.writer()
    parents: list[Oid] = []
    for number in range(LOG_LENGTH):
        staged = StagedCommit(f"step {number}", CommitKind.CELL, 1_700_000_000.0 + number, 0, code=f"x = {number}")
        parents = [writer.write(staged, parents)]
    writer.publish()
    before = repository.database.refs.read("refs/heads/main")
    repository.move_refs([RefMove("refs/heads/main", before, parents[0])], operation="commit", description="history")
    yield repository


def test_pickling_many_small_objects(benchmark: BenchmarkFixture, records: list[dict[str, object]]) -> None:
    saved = benchmark(lambda: save({"records": records}, Saving({}, "__main__")))
    assert saved.stream


def test_pickling_one_large_array(benchmark: BenchmarkFixture) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(5_000_000, dtype="f8")
    saved = benchmark(lambda: save({"array": array}, Saving({}, "__main__")))
    assert sum(len(buffer) for buffer in saved.buffers) == array.nbytes


def test_hashing_the_chunks_of_a_buffer(benchmark: BenchmarkFixture) -> None:
    buffer = memoryview(bytes(range(256)) * 400_000)
    assert len(benchmark(digest_buffers, [buffer])[0]) > 1


def test_finding_the_chunks_of_an_appended_stream(benchmark: BenchmarkFixture, records: list[dict[str, object]]) -> None:
    before = save({"records": records}, Saving({}, "__main__")).stream
    _, chunks = match_stream(before, ())
    after = save({"records": [*records, {"id": -1}]}, Saving({}, "__main__")).stream
    refs, _ = benchmark(match_stream, after, chunks)
    assert sum(ref.size_bytes for ref in refs if ref.data is not None) < len(after) // 20


def test_taking_the_copy_for_a_tiny_commit(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {"x": 0}
    repository.commit(namespace, "first")

    def step() -> object:
        namespace["x"] = namespace["x"] + 1  # type: ignore[operator]
        return repository.commit(namespace, "step", wait=False)

    pending = benchmark(step)
    assert pending.wait()


def test_a_tiny_commit_until_it_is_durable(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    repository = dartvc.init(tmp_path)
    namespace: dict[str, object] = {"x": 0}

    def step() -> str:
        namespace["x"] = namespace["x"] + 1  # type: ignore[operator]
        return repository.commit(namespace, "step").oid

    assert benchmark(step)


def test_log_over_ten_thousand_commits(benchmark: BenchmarkFixture, long_history: Repository) -> None:
    tip = long_history.resolve("main")
    count = benchmark(lambda: sum(1 for _ in long_history.iter_log([tip])))
    assert count == LOG_LENGTH


def test_the_first_page_of_a_long_log(benchmark: BenchmarkFixture, long_history: Repository) -> None:
    tip = long_history.resolve("main")
    first = benchmark(lambda: next(iter(long_history.iter_log([tip]))))
    assert first.oid == tip


@pytest.fixture
def logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a new repository, in which this process logs."""
    end_run()
    dartvc.init(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    end_run()


def test_logging_a_scalar_in_two_loops(benchmark: BenchmarkFixture, logged_in: Path) -> None:
    """A thousand calls; what the thread does meanwhile is part of it."""

    def log_thousand() -> None:
        for _epoch in range(10):
            for _batch in range(100):
                dartvc.log("loss", 0.5)

    benchmark(log_thousand)


def test_a_filtered_pivot_of_three_names(benchmark: BenchmarkFixture, logged_in: Path) -> None:
    repository = dartvc.open(logged_in)
    for epoch in range(33):
        for batch in range(1000):
            for name in ("loss", "acc", "norm"):
                dartvc.log(name, epoch + batch / 1000)
    from dartvc.porcelain.query import query_names

    found = benchmark(lambda: list(query_names(repository.history, ["loss", "acc", "norm"], "epoch > 20 and acc < 25").rows))
    assert len(found) == 4000
