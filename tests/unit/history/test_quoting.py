"""Names and texts survive being written as tree entries, words and lines."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from dartvc.history.quoting import entry_name, name_of_entry, quote_line, quote_words, shard_of, unquote, unquote_words

any_text = st.text(st.characters(exclude_categories=()))


@given(any_text)
@example("")
@example("%")
@example("%2E")
@example(".git")
@example("git~1")
@example("a/b")
@example("\ud800")
def test_every_name_survives_as_a_tree_entry_that_git_allows(name: str) -> None:
    entry = entry_name(name)
    assert name_of_entry(entry) == name
    assert entry and "/" not in entry and "\0" not in entry and "~" not in entry and not entry.startswith(".")
    entry.encode()


@given(st.lists(any_text))
@example([""])
@example(["", ""])
@example(["a, b", "c"])
def test_every_list_of_names_survives_as_one_line(names: list[str]) -> None:
    line = quote_words(names)
    assert list(unquote_words(line)) == names
    assert "\n" not in line and line.splitlines() in ([], [line])


@given(any_text)
def test_every_text_survives_as_one_line_without_outer_blanks(text: str) -> None:
    line = quote_line(text)
    assert unquote(line) == text
    assert line == line.strip() and len(line.splitlines()) <= 1


@given(any_text, any_text)
def test_different_names_have_different_entries(first: str, second: str) -> None:
    assert (entry_name(first) == entry_name(second)) == (first == second)


def test_identifiers_are_written_as_they_are() -> None:
    assert entry_name("learning_rate") == "learning_rate"
    assert quote_words(["a", "_b", "größe"]) == "a, _b, größe"
    assert shard_of("x").startswith("~") and len(shard_of("x")) == 3
