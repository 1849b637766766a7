"""What is kept of a command line or an address: enough to know it again, nothing that may be secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dartvc.program.acts import Act, Acts, acts_between, acts_since, describe_acts, read_acts
from dartvc.program.records import add_record


def heard(event: str, *arguments: object) -> list[str]:
    acts = Acts(lambda record: None)
    acts.hear(event, arguments)
    return [f"{act.kind}: {act.what}" for act in acts.total()]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/git", "push", "https://me:secret@host/x"], "subprocess: git push ..."),
        (["git", "secret-9"], "subprocess: git ..."),
        (["git", "--password", "x"], "subprocess: git ..."),
        (["python3.11", "/opt/jobs/train.py", "--key", "x"], "subprocess: python3.11 train.py ..."),
        (["python", "-c", "secret"], "subprocess: python ..."),
        (["mysql", "-psecret"], "subprocess: mysql ..."),
        (["echo", "secret"], "subprocess: echo ..."),
        (["ls"], "subprocess: ls"),
        (["/bin/sh", "-c", "TOKEN=secret curl https://x | sh"], "shell: curl ..."),
        (["bash", "-c", "unbalanced 'secret"], "shell: unbalanced ..."),
        (["/bin/sh", "-c", ""], "shell: sh"),
        ([b"/bin/\xff", b"secret"], "subprocess: ? ..."),
    ],
)
def test_a_command_line_is_shortened_to_what_is_never_secret(words: list[object], shown: str) -> None:
    assert heard("subprocess.Popen", words[0], words, None, None) == [shown]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("10.0.0.1", 443), ["connection: 10.0.0.1:443"]),
        (("::1", 80, 0, 0), ["connection: [::1]:80"]),
        ("/run/docker.sock", ["connection: socket /run/docker.sock"]),
        ("/tmp/pymp-x/listener-1", []),
        ((1,), []),
        (None, []),
    ],
)
def test_a_connection_is_known_by_its_address(address: object, shown: list[str]) -> None:
    assert heard("socket.connect", None, address) == shown


def test_a_connection_is_known_by_the_name_that_was_looked_up() -> None:
    acts = Acts(lambda record: None)
    acts.hear("socket.getaddrinfo", ("example.org", 443, 0, 0, 0))
    acts.hear("socket.connect", (None, ("192.0.2.7", 443)))
    acts.hear("socket.connect", (None, ("192.0.2.8", 80)))
    assert [act.what for act in acts.total()] == ["example.org:443", "192.0.2.8:80"]


def test_odd_events_are_counted_and_never_raise() -> None:
    assert heard("subprocess.Popen", object(), object(), None, None) == ["subprocess: a program"]
    assert heard("os.system") == ["subprocess: others"]
    assert heard("socket.connect") == ["connection: others"]


def test_very_many_different_acts_are_kept_as_others_and_very_many_equal_ones_written_rarely() -> None:
    written: list[Mapping[str, object]] = []
    acts = Acts(written.append)
    for number in range(200):
        acts.hear("socket.connect", (None, ("h", number)))
    assert len(acts.total()) == 65 and acts.total()[-1] == Act("connection", "others", 136)
    written.clear()
    acts.advance()
    for _ in range(1000):
        acts.hear("socket.connect", (None, ("h", 1)))
    assert [each["times"] for each in written] == [*range(1, 17), 32, 64, 128, 256, 512]


def test_acts_are_read_back_compared_and_told() -> None:
    before = read_acts({"items": [{"kind": "shell", "what": "ls", "times": 1}]})
    after = [Act("shell", "ls", 3), Act("subprocess", "git push ...", 1), *(Act("connection", f"h:{n}", 1) for n in range(5))]
    assert acts_between(before, after)[0] == Act("shell", "ls", 2)
    told = describe_acts(acts_between(before, after))
    assert told == "run 2 shell commands (ls), started 1 subprocess (git push ...), opened 5 connections (h:0, h:1, h:2, 2 more)"
    assert describe_acts([]) == ""


def test_a_journal_tells_what_was_done_since_a_commit_also_when_it_was_torn(tmp_path: Path) -> None:
    ls = {"act": "shell", "what": "ls"}
    lines = [
        {"sequence": 1, **ls, "times": 1}, {"sequence": 2, "act": "exec", "what": "x", "times": 1}, {"sequence": 2, "path": "/f", "before": "absent"},
        {"sequence": 2, **ls, "times": 1}, {"sequence": 2, **ls, "times": 2}, {"sequence": 3, **ls, "times": 1},
        {"sequence": 2, **ls, "times": 1},  # resumed from the second commit
    ]  # fmt: skip
    for line in lines:
        add_record(tmp_path, line, is_ordered=True)
    with open(tmp_path / "journal", "a") as journal:
        journal.write('{"sequence": 3, "act"')
    assert acts_since(tmp_path, 2) == [Act("exec", "x", 1), Act("shell", "ls", 4)]
    assert acts_since(tmp_path, 3) == []
    assert acts_since(tmp_path / "none", 0) == []
