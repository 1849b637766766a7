"""What is logged, as JSON: scalars as they are, small lists and dicts as JSON, everything else as a blob with a summary.

A stored value is a JSON scalar, or an object with one of these keys:
``json`` (a list or dict), ``text`` (the repr of a small value of another kind, with ``type``), ``blob`` (the name of an attachment, with ``type``, ``format``
and ``summary``). The kind of a stored value is one of `KINDS`, which the index keeps beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["KINDS", "SCALARS", "kind_of", "stored_value"]

KINDS = ("null", "bool", "int", "float", "str", "json", "text", "blob")
"""Kinds of stored values; the index keeps their position in this tuple. Append only."""

SCALARS = frozenset({float, int, bool, str, type(None)})
_LINE_LIMIT = 4096
_SMALL = frozenset(
    {"complex", "Decimal", "Fraction", "datetime", "date", "time", "timedelta", "UUID", "PosixPath", "bytes", "slice", "range"}
)


def stored_value(value: object, attach: Callable[[str, bytes], None]) -> object:
    """Returns what stands for a value in a record; never raises.

    Args:
        value: anything.
        attach: takes the name and the bytes of an attachment.
    """
    kind = type(value)
    if kind in SCALARS and (kind is not str or len(value) <= _LINE_LIMIT):  # type: ignore[arg-type]
        return value
    try:
        scalar = _scalar_of(value)
        if scalar is not None:
            return scalar[0]
        if isinstance(value, list | tuple | dict):
            text = json.dumps(value, default=_element)
            if len(text) <= _LINE_LIMIT:
                return {"json": json.loads(text)}
    except Exception:
        pass  # what follows stores anything
    if hasattr(kind, "_member_map_") or (
        kind.__name__ in _SMALL and kind.__module__ in ("builtins", "decimal", "fractions", "datetime", "uuid", "pathlib")
    ):
        text = repr(value)
        if len(text) <= _LINE_LIMIT:
            return {"text": text, "type": kind.__name__}
    from dartvc.state.summaries import summarize  # most programs log scalars only

    summary = dict(summarize(value))
    try:
        form, content = _content_of(value)
    except Exception as error:
        return {"text": f"<{summary.get('type', kind.__name__)}: not stored: {error}>"[:_LINE_LIMIT], "type": str(summary.get("type"))}
    name = f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.{form}"
    attach(name, content)
    return {"blob": name, "type": str(summary.get("type", kind.__name__)), "format": form, "summary": summary}


def kind_of(stored: object) -> int:
    """Returns the position in `KINDS` of a stored value's kind."""
    if stored is None:
        return 0
    if isinstance(stored, Mapping):
        return 5 if "json" in stored else 7 if "blob" in stored else 6
    return {bool: 1, int: 2, float: 3}.get(type(stored), 4)


def _scalar_of(value: Any) -> tuple[object] | None:
    """Returns the plain value of a scalar of numpy, torch and their like, in a tuple; None when it is none.

    Only genuine classes of loaded libraries are asked.
    """
    kind = type(value)
    if isinstance(value, float | int | str) and not hasattr(kind, "_member_map_"):
        plain: Any = bool(value) if isinstance(value, bool) else int(value) if isinstance(value, int) else value
        plain = float.__float__(plain) if isinstance(plain, float) else str.__str__(plain) if isinstance(plain, str) else plain
        return (plain,) if not isinstance(plain, str) or len(plain) <= _LINE_LIMIT else None
    library = (
        sys.modules.get("numpy")
        if kind.__module__ == "numpy"
        else sys.modules.get("torch")
        if kind.__module__.startswith("torch")
        else None
    )
    if library is not None and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        plain = value.item()
        return (plain,) if type(plain) in SCALARS else None
    return None


def _element(value: object) -> object:
    scalar = _scalar_of(value)
    if scalar is None:
        raise TypeError(type(value).__name__)
    return scalar[0]


def _content_of(value: Any) -> tuple[str, bytes]:
    """Returns a format and the bytes of a value in it: text, npy (arrays and tensors), png (figures), else a pickle."""
    if isinstance(value, str):
        return "txt", str(value).encode("utf-8", "surrogatepass")
    kind, numpy = type(value), sys.modules.get("numpy")
    if kind.__module__.startswith("torch") and hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
        numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject:
        out = io.BytesIO()
        numpy.lib.format.write_array(out, value, allow_pickle=False)
        return "npy", out.getvalue()
    if kind.__module__.startswith("matplotlib.") and hasattr(value, "savefig"):
        out = io.BytesIO()
        value.savefig(out, format="png")
        return "png", out.getvalue()
    import pickle  # most programs log scalars only

    return "pickle", pickle.dumps(value, protocol=5)
