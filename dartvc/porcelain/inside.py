"""Going into a value by what its summary says: ``show HEAD:config['lr']``, ``HEAD:model.layers[0]``. Nothing is unpickled.

A summary tells the parts of a value as numbers or as texts of a few levels; where these end, so does the way.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dartvc.errors import NotFoundError, UsageError
from dartvc.model import Summary
from dartvc.state.summaries import summarize

__all__ = ["Step", "look_inside", "parse_path"]

_STEP = re.compile(r"""\.(?P<attribute>[^.\[\]]+)|\[\s*(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]|\[(?P<bare>[^\[\]]+)\]""")
_GROUPS = ("items", "attributes", "fields", "layers", "params", "fitted")
_COLUMNS = {"pandas.DataFrame": "pandas.Series", "polars.DataFrame": "polars.Series"}
_NAMED = re.compile(r"<?(?P<type>[A-Za-z_][\w.]*)( of (?P<length>\d+))?>?\Z")
_OPAQUE = re.compile(r"<[^<>]*>")
_BRACKETS = {"{": "dict", "[": "list", "(": "tuple", "'": "str", '"': "str"}
_SAME_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One step into a value: an attribute's or column's name, a key, or a position."""

    key: str | int
    is_attribute: bool


def parse_path(path: str) -> list[Step]:
    """Reads ``.x['k'][0]``; a key may also stand without quotes, which shells take away.

    Raises:
        UsageError: it is malformed.
    """
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise UsageError(f"{path[at:]!r} does not lead into a value", kind="bad-path", hint="dvc-state show \"HEAD:config['lr']\", HEAD:rows[0], HEAD:model.x")
        if found["attribute"] is not None:
            steps.append(Step(found["attribute"], is_attribute=True))
        elif found["quoted"] is not None:
            steps.append(Step(str(ast.literal_eval(found["quoted"])), is_attribute=False))
        else:
            text = found["bare"].strip()
            steps.append(Step(int(text) if re.fullmatch(r"-?\d+", text) else text, is_attribute=False))
        at = found.end()
    return steps


def look_inside(summary: Summary, path: str, target: str) -> Summary:
    """Returns what the summary of a value says of a part of it, as a summary of that part.

    Args:
        summary: of the whole value.
        path: the way to the part, as written.
        target: the whole of what was asked for, for messages.

    Raises:
        UsageError: the path is malformed.
        NotFoundError: there is no such part, or the summary does not tell of it.
    """
    steps = parse_path(path)
    place: object = summary
    while steps:
        found = next(_ways(place, steps), None)
        if found is None:
            raise _unknown(place, steps, path, target)
        count, place = found
        del steps[:count]
    return _summary_of(place)


@dataclass(frozen=True, slots=True)
class _Text:
    """A part of which a summary holds the text only."""

    text: str


def _ways(place: object, steps: Sequence[Step]) -> Iterator[tuple[int, object]]:
    """Yields (how many steps it takes, the part that they lead to), the best way first."""
    if isinstance(place, _Text):
        place = {"items": _parts_of(place.text)}
    elif isinstance(place, list):
        place = {"items": place}
    if not isinstance(place, Mapping):
        return
    step = steps[0]
    for group in _GROUPS:
        parts = place.get(group)
        if parts is None and group == "items" and isinstance(place.get("repr"), str):
            parts = _parts_of(str(place["repr"]))  # a long container: its text has the first of them
        if isinstance(parts, list) and isinstance(step.key, int):
            if -len(parts) <= step.key < len(parts) and (step.key >= 0 or place.get("length", len(parts)) == len(parts)):
                yield 1, _part(place, group, parts[step.key])
        elif isinstance(parts, Mapping):
            for count in range(len(steps), 0, -1):  # a layer's name has points in it
                key = ".".join(str(each.key) for each in steps[:count])
                if key in parts and (count == 1 or all(each.is_attribute for each in steps[:count])):
                    yield count, _part(place, group, parts[key])
    if step.key in place and step.key not in _GROUPS:
        told = place[step.key]
        yield 1, _Text(repr(told)) if isinstance(told, str) else told


def _part(place: Mapping[Any, object], group: str, part: object) -> object:
    if isinstance(part, Mapping) and group == "fields":
        return {"type": _COLUMNS.get(str(place.get("type")), "column"), "length": place.get("rows"), **part}
    if isinstance(part, Mapping) and group == "layers":
        return {"type": "parameter", **part}
    if isinstance(part, str) and group == "fitted" and part.startswith("["):
        return {"type": "numpy.ndarray", "repr": part}
    return _Text(part) if isinstance(part, str) else part


def _parts_of(text: str) -> list[object] | dict[str, object] | None:
    """Returns the parts of a container by its text; None when the text does not show them."""
    for whole in (text, re.sub(r", \.\.\.([\]\)}])\Z", r"\1", text)):
        node = _parse(whole)
        if isinstance(node, ast.List | ast.Tuple):
            return [_text_of(each) for each in node.elts if not (isinstance(each, ast.Constant) and each.value is ...)]
        if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
            pairs = zip(node.keys, node.values, strict=True)
            return {str(key.value): _text_of(value) for key, value in pairs if isinstance(key, ast.Constant)}
    return None


def _parse(text: str) -> ast.expr | None:
    """Reads the text of a value; what it does not show (``<list of 2>``) becomes a name that `_text_of` turns back."""
    guarded = _OPAQUE.sub(lambda found: f"_{found[0].encode().hex()}_", text)
    try:
        return ast.parse(guarded, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _text_of(node: ast.expr) -> _Text:
    return _Text(re.sub(r"\b_(3c[0-9a-f]*3e)_\b", lambda found: bytes.fromhex(found[1]).decode(), ast.unparse(node)))


def _is_cut(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and node.value is ...)


def _summary_of(place: object) -> Summary:
    if isinstance(place, Mapping) and "type" in place:
        return place
    if not isinstance(place, _Text):
        return summarize(dict(place) if isinstance(place, Mapping) else place)
    node = _parse(place.text)
    if node is not None and not any(map(_is_cut, ast.walk(node))):
        try:
            return summarize(ast.literal_eval(place.text))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            pass
    if place.text in ("nan", "inf", "-inf"):
        return summarize(float(place.text))
    named = _NAMED.match(place.text)
    if named is not None:
        return {"type": named["type"], **({"length": int(named["length"])} if named["length"] else {})}
    return {"type": _BRACKETS.get(place.text[:1], "value"), "repr": place.text}


def _unknown(place: object, steps: Sequence[Step], path: str, target: str) -> NotFoundError:
    """Says where the way ends, and what leads on."""
    name = target.removesuffix(path)
    revision, _, variable = name.partition(":")
    step = f".{steps[0].key}" if steps[0].is_attribute else f"[{steps[0].key!r}]"
    inside = path if not path.endswith(step) else path[: -len(step)]
    known = _names_in(place)
    close = difflib.get_close_matches(str(steps[0].key), known, n=_SAME_SHOWN)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    else:
        shorter = f"dvc-state show {name}{inside}, or " if len(steps) == 1 and inside != path else f"dvc-state show {name}, or "
        hint = f"{shorter}dvc-state shell {revision or 'HEAD'} -c {_quoted(f'print({variable}{path})')}"
    return NotFoundError(f"the summary of {name} does not tell of {step} in {path}", kind="unknown-path", hint=hint)


def _names_in(place: object) -> list[str]:
    if isinstance(place, _Text):
        place = {"items": _parts_of(place.text)}
    if not isinstance(place, Mapping):
        return []
    groups = (place.get(group) for group in _GROUPS)
    return [str(key) for parts in groups if isinstance(parts, Mapping) for key in parts]


def _quoted(text: str) -> str:
    return f'"{text}"' if '"' not in text else f"'{text}'"
