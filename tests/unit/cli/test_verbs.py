"""What the verbs answer, called as the console script and a session's socket call them."""

from __future__ import annotations

import collections
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dartvc.cli.entry import run
from dartvc.history import Repository
from dartvc.model import CommitKind
from dartvc.porcelain.moves import redo, undo
from dartvc.sessions import Session


class Project:
    """A repository with a living session, and both ways to give a command: inside the session, and with HEAD alone."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.init(folder, key_path=folder / "key", trust_path=folder / "trusted")
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.session = Session(self.repository, self.namespace)

    def commit(self, message: str, **values: object) -> str:
        """Binds names and commits them."""
        self.namespace.update(values)
        self.session.checkpoint(message, CommitKind.MANUAL, force=True)
        self.session.flush()
        return str(self.session.head)

    def __call__(self, *words: str, expected: int = 0, is_inside: bool = True) -> str:
        """Gives a command; returns its results, or its messages where it is to fail."""
        out, err = io.StringIO(), io.StringIO()
        workspace = self.session if is_inside else None
        code = run(words, stdout=out, stderr=err, workspace=workspace, repository=self.repository, directory=str(self.repository.root))
        self.session.flush()
        assert code == expected, (code, out.getvalue(), err.getvalue())
        self.said = err.getvalue()
        return out.getvalue() if expected == 0 else out.getvalue() + err.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Three commits of ``x``."""
    made = Project(tmp_path)
    for number in range(3):
        made.commit(f"step {number}", x=number)
    yield made
    made.session.close()


def test_a_negative_count_is_no_limit_as_in_git(project: Project) -> None:
    assert json.loads(project("log", "-n", "-1", "--json")) == json.loads(project("log", "--json"))
    assert json.loads(project("op", "log", "-n", "-1", "--json")) == json.loads(project("op", "log", "--json"))
    assert len(json.loads(project("op", "log", "-n", "-1", "--json"))["items"]) >= 3
    assert len(json.loads(project("log", "-n", "2", "--json"))["items"]) == 2


@pytest.mark.parametrize("rule", ["max:x:1", "max:x 1"])
def test_gc_keeps_the_best_in_both_spellings(project: Project, rule: str) -> None:
    assert "thinned" in project("gc", "--dry-run", "--keep-best", rule)


def test_gc_drops_automatic_commits_of_a_moment_ago_when_told_to(project: Project) -> None:
    for number in range(9):
        project.namespace["x"] = str(number) * 100_000
        project.session.checkpoint(f"auto {number}", CommitKind.AUTO)
        project.session.flush()
    project("tag", "kept", "HEAD~6")
    assert "is alive" in project("gc", "--keep-last", "2", "--prune", "0s", expected=4)
    project.session.close()
    assert "0 automatic commits" in project("gc", is_inside=False)
    assert "6 automatic commits thinned" in project("gc", "--keep-last", "2", "--keep-within", "0s", "--prune", "now", is_inside=False)
    assert project("fsck", is_inside=False) == "every object, ref and commit is sound\n"
    left = [each["message"] for each in json.loads(project("log", "--json", is_inside=False))["items"]]
    assert left == ["auto 8", "auto 7", "auto 2", "step 2", "step 1", "step 0"]


def test_what_gc_dropped_cannot_be_undone_and_what_it_kept_can(project: Project) -> None:
    for number in range(4):
        project.namespace["x"] = number
        project.session.checkpoint(f"auto {number}", CommitKind.AUTO)
        project.session.flush()
    project.session.close()
    last = project("op", "log", "-n", "1", is_inside=False).split()[0]
    project("gc", "--keep-last", "2", "--keep-within", "0s", "--prune", "0s", is_inside=False)
    assert "auto 3" in project("undo", is_inside=False)
    assert "auto 2" in project("log", "-n", "1", is_inside=False)
    assert "was dropped" in project("undo", expected=3, is_inside=False)
    project("op", "restore", last, is_inside=False)
    assert "auto 3" in project("log", "-n", "1", is_inside=False)
    assert project("fsck", is_inside=False) == "every object, ref and commit is sound\n"


@pytest.mark.parametrize("words", [("--keep-last", "-1"), ("--keep-best", "max:x"), ("--keep-within", "-7d"), ("--keep-within", "nan")])
def test_gc_refuses_rules_that_mean_nothing(project: Project, words: tuple[str, ...]) -> None:
    assert "error: " in project("gc", "--dry-run", *words, expected=2)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("dartvc.keepLast", "ten", "not a number"), ("dartvc.keepLast", "1.5", "not a number"), ("dartvc.keepWithin", "soon", "not a duration"),
        ("dartvc.keepBest", "acc", "not a rule"), ("dartvc.maxOverhead", "nan", "not a percentage"), ("DARTVC.EVERY", "x", "dartvc.every cannot"),
        ("dartvc.keeplasts", "5", "did you mean dartvc.keepLast?"), ("dartvx.keepLast", "5", "there is no setting"), ("author", "me", "there is no setting"),
    ],
)  # fmt: skip
def test_settings_that_no_reader_understands_are_refused(project: Project, key: str, value: str, said: str) -> None:
    before = (project.repository.path / "config").read_bytes()
    assert said in project("config", key, value, expected=2)
    assert (project.repository.path / "config").read_bytes() == before


def test_settings_are_printed_as_json_and_git_keeps_its_own(project: Project) -> None:
    assert json.loads(project("config", "dartvc.every", "60", "--json")) == {"schema": "dvc-state/config/1", "key": "dartvc.every", "value": "60"}
    assert json.loads(project("config", "dartvc.every", "--json"))["value"] == "60"
    assert project("config", "--list") == project("config") and "dartvc.every=60\n" in project("config")
    project("config", "user.name", "me")
    assert project("config", "user.name") == "me\n"
    project("config", "--list", "user.name", expected=2)


def test_a_bisection_without_result_is_json_too(project: Project) -> None:
    assert json.loads(project("bisect", "run", "--expr", "x > 7", "--json", expected=1)) == {"schema": "dvc-state/bisect/1", "oid": None, "tested": 2}
    assert json.loads(project("bisect", "run", "--expr", "x > 1", "--json"))["oid"] == project.session.head


class Point:
    """An instance with parts."""

    def __init__(self) -> None:
        self.x = 1.5
        self.tags = {"a": [1, [2, 3]]}
        self.inner = object()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("d['k']", "int 1"), ("d.k", "int 1"), ("d[k]", "int 1"), ("d[3]", "float 2.5"), ("d['deep']['z'][1]", "str 'two'"), ("d['a.b']", "NoneType None"),
        ("rows[0]", "int 10"), ("rows[-1]", "str 'last'"), ("rows[1]", "list [1, 2] length 2"), ("rows[1][0]", "int 1"),
        ("p.x", "float 1.5"), ("p.tags['a'][0]", "int 1"), ("p.tags['a'][1]", "list length 2"),
        ("p.inner", "object"), ("many[4]", "int 4"), ("many.length", "int 50"), ("pair.left", "int 1"),
    ],
)  # fmt: skip
def test_a_path_leads_into_a_value_as_far_as_its_summary_tells(project: Project, path: str, shown: str) -> None:
    pair = collections.namedtuple("pair", "left right")
    project.commit(
        "parts", d={"k": 1, 3: 2.5, "deep": {"z": [1, "two"]}, "a.b": None}, rows=[10, [1, 2], "last"], p=Point(), many=list(range(50)), pair=pair(1, 2)
    )
    assert project("show", f"HEAD:{path}").splitlines()[0] == f"{path}  {shown}"
    answer = json.loads(project("show", f"HEAD:{path}", "--json"))
    assert answer["name"] == path and answer["summary"]["type"] == shown.split()[0]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("d['kye']", "did you mean key?"), ("p.inner.deep", "dvc-state shell HEAD -c \"print(p.inner.deep)\""), ("many[40]", "dvc-state show HEAD:many, or"),
        ("many[-1]", "does not tell of [-1]"), ("p.xx", "did you mean x?"),
    ],
)  # fmt: skip
def test_where_a_summary_ends_the_error_says_what_can_tell(project: Project, path: str, said: str) -> None:
    project.commit("parts", d={"key": 1}, p=Point(), many=list(range(50)))
    assert said in project("show", f"HEAD:{path}", expected=3)
    assert "does not lead into a value" in project("show", "HEAD:d[", expected=2)


def test_columns_and_layers_are_parts(project: Project) -> None:
    pandas = pytest.importorskip("pandas")
    project.commit("frame", df=pandas.DataFrame({"v": [1, 2, 3]}))
    assert project("show", "HEAD:df.v").splitlines()[0] == project("show", "HEAD:df['v']").splitlines()[0].replace("['v']", ".v")
    assert project("show", "HEAD:df.v").startswith("df.v  pandas.Series int64 length 3")
    assert project("show", "HEAD:df.v.max") == "df.v.max  int 3\n"
    torch = pytest.importorskip("torch")
    project.commit("net", net=torch.nn.Sequential(torch.nn.Linear(2, 3)))
    assert project("show", "HEAD:net.0.weight").startswith("net.0.weight  parameter 3x2")


@pytest.mark.parametrize("name", ["HEAD", "@"])
def test_branches_and_tags_are_never_named_as_head_is(project: Project, name: str) -> None:
    for words in (("branch", name), ("tag", name), ("checkout", "-b", name), ("switch", "-c", name)):
        assert "is not a valid name" in project(*words, expected=2)
    assert project("log", "--oneline").count("\n") == 3


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_checkout_may_leave_head_out(project: Project, is_inside: bool) -> None:
    project.namespace["x"] = "not committed"
    project.session.is_dirty = True
    assert "HEAD is new at " in project("checkout", "-b", "new", is_inside=is_inside)
    assert project.repository.resolve("new") == project.repository.resolve("main")
    assert project.namespace["x"] == "not committed"
    assert "checkout needs a revision, or names" in project("checkout", expected=2, is_inside=is_inside)


def test_names_after_two_dashes_are_names_of_head(project: Project) -> None:
    project.namespace["x"] = [7]
    assert "restored: x" in project("checkout", "--", "x") and project.namespace["x"] == 2
    project("checkout", ":/step 1", "--", "x")
    assert project.namespace["x"] == 1
    assert "no branch or tag" in project("checkout", "x", expected=3)


def test_a_diff_takes_ranges_and_names_as_git_does(project: Project) -> None:
    project.commit("both", x=5, y=1)
    apart = project("diff", "HEAD~3", "HEAD")
    assert apart == project("diff", "HEAD~3..HEAD") == project("diff", "HEAD~3..") == project("diff", "HEAD~3...HEAD") != ""
    assert project("diff", "HEAD~3..HEAD", "--", "y") == project("diff", "--", "y") == project("diff", "HEAD~1", "--", "y") == project("diff", "HEAD~1", "HEAD", "y")
    assert "x" not in project("diff", "--", "y")
    assert "says both ends" in project("diff", "HEAD~1..HEAD", "main", expected=2)


def test_a_word_that_is_no_revision_is_a_name(project: Project) -> None:
    """As it is a path in git; a branch of the same name comes first."""
    project.commit("both", x={"a": [5]}, y=1)
    assert project("show", "x") == project("show", "HEAD:x") != ""
    assert project("show", 'x["a"]').startswith('x["a"]  ')
    assert project("diff", "y") == project("diff", "--", "y") != project("diff", "y", "x") == project("diff", "--", "x", "y")
    assert project("diff", "HEAD~2", "y") == project("diff", "HEAD~2", "HEAD", "y") == project("diff", "HEAD~2..HEAD", "y")
    project.commit("gone", y=None)
    for words in (("show", "nosuch"), ("diff", "nosuch"), ("diff", "HEAD~1", "nosuch"), ("diff", "HEAD~1", "HEAD", "nosuch")):
        assert "nosuch" in project(*words, expected=3)
    project("branch", "y")
    assert project("show", "y").startswith("commit ")


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_dash_is_where_head_was_before(project: Project, is_inside: bool) -> None:
    def at() -> str | None:
        return project.session.branch if is_inside else str(project.repository.database.refs.head().ref).removeprefix("refs/heads/")

    assert "nowhere else" in project("switch", "-", expected=3, is_inside=is_inside)
    project("checkout", "-b", "side", "HEAD~1", is_inside=is_inside)
    if is_inside:
        project.commit("on the side", x=9)
    for place in ("main", "side", "main"):
        project("switch", "-", is_inside=is_inside)
        assert at() == place
    assert project.namespace["x"] == 2
    project("checkout", "HEAD~1", is_inside=is_inside)
    project("checkout", "-", is_inside=is_inside)
    assert at() == "main"


@pytest.mark.parametrize(
    "words", [("log", "--var", "xs"), ("log", "--where", "xs > 3"), ("log", "--oneline", "--where", "x > 3 and xs > 1"), ("bisect", "run", "--expr", "xs > 1")]
)
def test_names_that_no_commit_has_are_an_error_and_no_answer(project: Project, words: tuple[str, ...]) -> None:
    project.commit("more", xx=1)
    assert "no commit has a variable 'xs'\n  did you mean " in project(*words, expected=3)


def test_a_condition_that_never_holds_is_an_answer(project: Project) -> None:
    project.namespace.pop("x")
    project.session.is_dirty = True
    project.commit("x is gone", y=1)
    assert project("log", "--where", "x > 7") == "" == project("log", "--var", "x", "HEAD~1..HEAD~1")
    assert project("log", "--where", "x > 1", "--json").count('"oid"') == 1


def test_no_session_has_one_exit_code(project: Project) -> None:
    for words in (("stash",), ("commit", "-m", "x"), ("restore", "x", "--from", "HEAD~1"), ("revert", "HEAD"), ("checkout", "HEAD", "--map-device", "cpu")):
        assert "no session is alive" in project(*words, expected=3, is_inside=False)


def test_a_usage_error_names_the_help_of_its_verb(project: Project) -> None:
    assert project("log", "--nosuch", expected=2).endswith("\n  dvc-state log --help\n")
    assert project("op", "restore", expected=2).endswith("\n  dvc-state op restore --help\n")
    assert project("nosuch", expected=2).endswith("\n  dvc-state --help\n")


def test_restoring_an_operation_says_which_branches_and_tags_went_and_came(project: Project) -> None:
    number = json.loads(project("op", "log", "--json"))["items"][0]["id"]
    project("tag", "best")
    project("branch", "side")
    later = json.loads(project("op", "log", "--json"))["items"][0]["id"]
    assert project("op", "restore", number).startswith("removed: branch side, tag best\n")
    assert project("op", "restore", later).startswith("brought back: branch side, tag best\n")


def test_the_undo_of_a_tags_deletion_moves_the_tag_alone(project: Project) -> None:
    project("tag", "v1")
    project("tag", "-d", "v1")
    assert "no session is alive" not in project("undo", is_inside=False)
    assert not (project.repository.path / "restore-next").exists()
    names: dict[str, object] = {"__name__": "__main__", "y": 5}
    second = Session(project.repository, names)
    second.checkpoint("second", CommitKind.MANUAL)
    head = second.head
    project("tag", "-d", "v1")
    for move, there in ((undo, True), (redo, False)):
        move(project.repository, second)
        assert (second.head, second.branch, names.get("y")) == (head, "main-2", 5)
        assert (project.repository.database.refs.read("refs/tags/v1") is not None) == there
    second.close()


def test_what_is_shown_reads_well(project: Project) -> None:
    assert ", 1 name\n" in project("status")
    assert all(line.endswith(" ago)") for line in project("log", "--oneline").splitlines())
    project.session.begin_unit()
    project.namespace["z"] = 1
    project.session.end_unit("z = 1", source="z = 1", execution=1, error="KeyboardInterrupt: ", duration_s=0.1)
    project.session.flush()
    shown = project("show")
    assert shown.count("z = 1") == 1 and "Error: KeyboardInterrupt\n" in shown
    assert "Error:  KeyboardInterrupt\n" in project("log", "-n", "1")


def subjects(project: Project, *words: str) -> list[str]:
    return [each["message"] for each in json.loads(project("log", "--json", *words))["items"]]


def test_log_is_narrowed_as_in_git(project: Project) -> None:
    project.commit("y alone", y=1)
    assert subjects(project, "-2") == subjects(project, "--oneline", "-2") == ["y alone", "step 2"]
    assert subjects(project, "--", "x") == subjects(project, "--var", "x") == ["step 2", "step 1", "step 0"]
    assert subjects(project, "-1", "HEAD~1", "--", "x") == ["step 2"]
    assert subjects(project, "--grep", "^step [01]") == subjects(project, "--grep=^step [01]") == ["step 1", "step 0"]
    assert len(subjects(project, "--since", "1h")) == 4 and subjects(project, "--since", "0s") == []
    assert "regular expression" in project("log", "--grep", "(", expected=2)
    assert "--var x" in project("log", "--", "x", "y", expected=2)


def test_branches_are_renamed_and_deleted_as_in_git(project: Project) -> None:
    project.session.close()
    head = json.loads(project("branch", "--json", is_inside=False))["items"]
    project.repository.config.update({"branch.main.remote": "origin", "branch.main.merge": "refs/heads/main"})
    project("branch", "-m", "trunk", is_inside=False)
    assert json.loads(project("branch", "-v", "--json", is_inside=False))["items"] == [{**head[0], "name": "trunk"}]
    assert project.repository.config.keys("branch.") == ["branch.trunk.remote", "branch.trunk.merge"]
    project("switch", "--create", "other", is_inside=False)
    project("branch", "-m", "trunk", "stem", is_inside=False)
    assert "exists already" in project("branch", "-m", "stem", "other", expected=2, is_inside=False)
    project("branch", "-D", "stem", is_inside=False)
    assert [each["name"] for each in json.loads(project("branch", "--json", is_inside=False))["items"]] == ["other"]
    for _ in range(4):
        project("undo", is_inside=False)
    assert json.loads(project("branch", "--json", is_inside=False))["items"] == head


def test_a_branch_on_which_a_session_lives_keeps_its_name(project: Project) -> None:
    assert "lives on 'main'" in project("branch", "-m", "trunk", expected=4)


def test_settings_are_got_and_unset_as_in_git(project: Project) -> None:
    project("config", "dartvc.keepLast", "7")
    assert project("config", "--get", "dartvc.keepLast") == "7\n"
    assert project("config", "--unset", "dartvc.keepLast") == ""
    assert project("config", "dartvc.keepLast") == "1000\n"
    assert "there is no setting" in project("config", "--unset", "dartvc.keepLst", expected=3)
    assert "--list" in project("config", "--get", expected=2)


def test_reset_is_hard(project: Project) -> None:
    project("reset", "--hard", "HEAD~1")
    assert project.namespace["x"] == 1
    assert "dvc-state reset REV" in project("reset", "--soft", "HEAD~1", expected=2)


def test_a_stash_may_be_pushed(project: Project) -> None:
    project.namespace["x"] = 5
    project("stash", "push")
    assert project.namespace["x"] == 2
    project("stash", "pop")
    assert project.namespace["x"] == 5


@pytest.mark.parametrize(
    ("words", "verb"),
    [("add .", "commit"), ("merge side", "cherry-pick"), ("rebase main", "cherry-pick"), ("reflog", "op log"), ("stash apply", "stash pop")],
)
def test_verbs_of_git_that_are_not_here_name_the_one_that_is(project: Project, words: str, verb: str) -> None:
    said = project(*words.split(), expected=2).splitlines()
    assert len(said) == 2 and said[1].startswith(f"  dvc-state {verb}")
    assert json.loads(project(*words.split(), "--json", expected=2))["error"]["code"] == "git-only"


def test_what_is_missing_is_called_as_in_the_reference(project: Project) -> None:
    for words, label in ((("revert",), "REV"), (("clone",), "ADDRESS"), (("remote", "add"), "NAME"), (("restore",), "NAMES...")):
        assert project(*words, expected=2).startswith(f"error: {label} is missing")


def test_an_export_to_no_format_offers_a_folder(project: Project) -> None:
    assert "-o states/ is a folder" in project("export", "HEAD", "-o", "states", expected=2)
