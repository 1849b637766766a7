"""Scripts that iterate text files while they are committed: they read what plain Python reads, and after a kill the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import command, log, printed_alike, project

pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

SCRIPT = """
import bz2, csv, gzip, lzma, os, signal
NEWLINE, LAST = None, "plain"

def opened(kind, mode, **options):
    if kind == "plain":
        return open("data", mode, **options)
    return {"gz": gzip, "bz2": bz2, "xz": lzma}[kind].open("data", mode, **options)

def lines(kind, encoding, ends):
    with opened(kind, "wb") as out:
        out.write("".join(f"{i},{'ä' * (i % 50)}{ends[i % len(ends)]}" for i in range(3000)).encode(encoding))
    with opened(kind, "rt", encoding=encoding, newline=NEWLINE) as file:
        for n, row in enumerate(csv.reader(file) if NEWLINE == "" else file):
            row = row if NEWLINE == "" else row.rstrip("\\n").split(",")
            assert row == [str(n), "ä" * (n % 50)], (n, row)
            if n == 1500 and kind == LAST and encoding == "utf-16":
                commit_and_die()
            elif n % 700 == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
                for _ in range(3):
                    pass
            yield n

totals = []
for kind in ("plain", "gz", "bz2", "xz"):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        total = 0
        for n in lines(kind, encoding, ["\\n", "\\r\\n"]):
            total += n
        totals.append((kind, encoding, total))
print(totals, flush=True)
"""
BROKEN = """
with open("data", "wb") as out:
    out.write(b"".join(b"%d,abc\\n" % i for i in range(4000)) + b"END \\xff\\n")
with open("data", encoding="utf-8") as file:
    n = 0
    try:
        for line in file:
            assert line == f"{n},abc\\n"
            if n == 2000:
                commit_and_die()
            n += 1
    except UnicodeDecodeError as error:
        print(n, error.start, flush=True)
"""


@pytest.mark.parametrize(("newline", "last"), [("None", "plain"), ("''", "gz"), ("None", "bz2"), ("''", "xz")])
def test_commits_change_nothing_about_what_a_script_reads_and_a_resume_reads_the_rest(tmp_path: Path, newline: str, last: str) -> None:
    printed = printed_alike(tmp_path, SCRIPT.replace('NEWLINE, LAST = None, "plain"', f'NEWLINE, LAST = {newline}, "{last}"'))
    assert printed.count(str(sum(range(3000)))) == 12
    assert len(log(tmp_path / "whole")) > 40


def test_bytes_that_cannot_be_decoded_are_met_where_plain_python_meets_them(tmp_path: Path) -> None:
    assert printed_alike(tmp_path, BROKEN)
    plain = project(tmp_path / "plain", BROKEN.replace("commit_and_die()", "pass"))
    assert command("run", "train.py", cwd=plain).stdout == command("run", "train.py", cwd=tmp_path / "whole").stdout
