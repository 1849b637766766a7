"""What a shell offers on TAB: verbs, options, revisions, names, runs, settings. Read without Typer, which costs more than a TAB may take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from dartvc.cli.completion_table import COMMON, VERBS, Kind
from dartvc.errors import DartvcError

if TYPE_CHECKING:
    from dartvc.history import Repository

__all__ = ["SHELLS", "candidates", "complete", "script_of"]

SHELLS = ("bash", "zsh", "fish")
_SEPARATORS = ";|&()\n"
_POSITIONS = 20
_PLAIN = re.compile(r"[\w./:@{}^~+,=%-]+\Z")
"""What may stand on a command line unquoted: a stranger's branch must not become a command there."""
_BASH = """\
_dvc_state() {
    local found
    COMPREPLY=()
    while IFS= read -r found; do
        COMPREPLY+=("$found")
    done < <(dvc-state __complete "${COMP_LINE:0:$COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
}
complete -o default -F _dvc_state dvc-state
"""
_ZSH = """\
#compdef dvc-state
_dvc_state() {
    local -a found
    found=(${(f)"$(dvc-state __complete "$LBUFFER" '' 2>/dev/null)"})
    if (( $#found )); then
        compadd -- $found
    else
        _files
    fi
}
if [[ $funcstack[1] == _dvc_state ]]; then
    _dvc_state "$@"
else
    compdef _dvc_state dvc-state
fi
"""
_FISH = """\
function __dvc_state_complete
    set -l found (dvc-state __complete (commandline -cp) '' 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c dvc-state -f -a '(__dvc_state_complete)'
"""


def script_of(shell: str) -> str:
    """Returns what a shell has to read so that it completes ``dvc-state``."""
    return {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]


def complete(argv: Sequence[str]) -> str:
    """Answers a shell: one candidate a line, nothing where it should offer files.

    Args:
        argv: the command line up to the cursor; the letters at which the shell (bash) begins a new word, of which it wants the rest only.
    """
    line, breaks = (*argv, "", "")[:2]
    words = words_of(line)
    current = words[-1] if words else ""
    kept = max((current.rfind(letter) + 1 for letter in breaks), default=0)
    try:
        found = sorted(set(candidates(words)))
    except (DartvcError, OSError):
        return ""  # no repository, or one that cannot be read: nothing to offer
    return "".join(f"{each[kept:]}\n" for each in found if each.startswith(current) and _PLAIN.match(each))


def words_of(line: str) -> list[str]:
    """Takes the command before the cursor apart as a shell does, without what stands before ``dvc-state``; the last word is the one to complete."""
    words = [""]
    quote, is_escaped, is_open = "", False, False
    for letter in line:
        if is_escaped:
            words[-1] += letter
            is_escaped = False
        elif letter == "\\" and quote != "'":
            is_escaped = is_open = True
        elif quote:
            quote = "" if letter == quote else quote
            words[-1] += letter if quote else ""
        elif letter in "'\"":
            quote, is_open = letter, True
        elif letter in _SEPARATORS:
            words, is_open = [""], False
        elif letter.isspace():
            if words[-1] or is_open:
                words.append("")
            is_open = False
        else:
            words[-1] += letter
    starts = [index for index, word in enumerate(words[:-1]) if os.path.basename(word) == "dvc-state"]
    return words[starts[0] + 1 :] if starts else words


def candidates(words: Sequence[str]) -> Iterable[str]:
    """Returns what could stand in the place of the last word; what does not fit what is typed of it may be among them.

    Raises:
        DartvcError: there is no repository, or it cannot be read.
    """
    *before, current = words
    directory = "."
    while before and before[0] in COMMON:
        takes = COMMON[before.pop(0)]
        if takes is not None:
            if not before:
                return ()
            directory = before.pop(0)
    verb = next((name for name in (" ".join(before[:2]), before[0] if before else "") if name in VERBS), None)
    if verb is None or (verb == "stash" and len(before) == 1 and not current.startswith("-")):
        group = f"{before[0]} " if before else ""
        heads = {name.removeprefix(group).split(" ")[0] for name in VERBS if name.startswith(group)}
        return heads | set(COMMON) if not before else heads
    options, arguments = VERBS[verb]
    rest = before[verb.count(" ") + 1 :]
    kind, is_option = _kind_at(rest, current, options, arguments)
    if is_option:
        return options
    option, equals, typed = current.partition("=")
    prefix = f"{option}=" if equals and option in options else ""
    return (prefix + value for value in _values(kind, typed if prefix else current, rest, os.path.expanduser(directory)))


def _kind_at(rest: Sequence[str], current: str, options: dict[str, Kind | None], arguments: Sequence[Kind]) -> tuple[Kind, bool]:
    """Returns what kind of word is due behind ``rest``, and whether it is an option itself."""
    place, pending, is_past_options = 0, None, False
    for word in rest:
        if pending is not None:
            pending = None
        elif word == "--" and not is_past_options:
            is_past_options = True
        elif word.startswith("-") and not is_past_options:
            pending = options.get(word)
        else:
            place += 1
    if pending is not None:
        return pending, False
    if is_past_options:
        return ("name" if "name" in arguments else "file"), False
    if current.startswith("-"):
        option, equals, _ = current.partition("=")
        return (options.get(option) or "other", False) if equals else ("other", True)
    kind = arguments[min(place, len(arguments) - 1)] if arguments else "other"
    return kind, False


def _values(kind: Kind, typed: str, rest: Sequence[str], directory: str) -> Iterator[str]:
    from dartvc.history.repository import Repository

    if kind in ("file", "other"):
        return
    repository = Repository.open(directory)
    if kind == "target" and ":" in typed:
        revision = typed.partition(":")[0]
        yield from (f"{revision}:{name}" for name in _names(repository, revision or "HEAD"))
    elif kind in ("revision", "target"):
        start = max(typed.rfind("..") + 2 if ".." in typed else 0, 1 if typed.startswith("^") else 0)
        yield from (typed[:start] + value for value in _revisions(repository, typed[start:]))
    elif kind == "name":
        source = next((word for option, word in pairwise(rest) if option == "--from"), "HEAD")
        yield from _names(repository, source)
    elif kind == "run":
        yield from _refs(repository, "refs/runs/")
    elif kind == "setting":
        from dartvc.history.config import SETTINGS

        yield from SETTINGS
        yield from repository.config.keys("")
    elif kind == "remote":
        yield from repository.config.subsections("remote")
    elif kind == "branch":
        yield from _refs(repository, "refs/heads/")
    elif kind == "tag":
        yield from _refs(repository, "refs/tags/")


def _refs(repository: Repository, prefix: str) -> Iterator[str]:
    return (name.removeprefix(prefix) for name, _ in repository.database.refs.iter_refs(prefix))


def _revisions(repository: Repository, typed: str) -> Iterator[str]:
    yield "HEAD"
    for prefix in ("refs/heads/", "refs/tags/", "refs/remotes/", "refs/runs/"):
        yield from _refs(repository, prefix)
    base, at, _ = typed.partition("@")
    if at:
        ref = repository.database.refs.head().ref if base in ("", "HEAD") else f"refs/heads/{base}"
        places = zip(range(_POSITIONS), repository.operations.iter_positions(ref), strict=False)
        yield from (f"{base}@{{{number}}}" for number, _ in places)


def _names(repository: Repository, revision: str) -> list[str]:
    from dartvc.history.namespace import iter_names

    tree = repository.database.read_tree(repository.commit(repository.resolve(revision)).tree)
    return [name for name, _ in iter_names(repository.database, tree["names"].oid)] if "names" in tree else []
