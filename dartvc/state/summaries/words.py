"""The words of summaries: names of types and bounded texts of values, without running code of the user.

A class can lie about itself through its metaclass, so its name, its bases and its namespace are read with the descriptors of `type`.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping
from itertools import islice
from typing import Any

__all__ = [
    "SET_ITEMS",
    "TEXT_LENGTH",
    "clean",
    "instance_dict",
    "is_genuine",
    "item_of",
    "module_of",
    "mro_of",
    "namespace_of",
    "number",
    "qualname_of",
    "rough",
    "short_text",
    "type_name",
]

TEXT_LENGTH = 200
SET_ITEMS = 64
"""Items of larger sets are not shown: which of them come first differs from process to process."""
_STRING_LENGTH = 80
_ITEMS = 6
_DEPTH = 2
_HUGE_BITS = 512

_MODULE = type.__dict__["__module__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_MRO = type.__dict__["__mro__"].__get__
_NAMESPACE = type.__dict__["__dict__"].__get__

_BRACKETS = {id(list): "[]", id(tuple): "()", id(set): "{}", id(frozenset): "{}"}
_NUMBERS = {id(kind): kind for kind in (int, float, complex, bool, type(None), range, type(Ellipsis), type(NotImplemented))}
_STRINGS = {id(kind): kind for kind in (str, bytes, bytearray)}


def module_of(kind: type) -> str:
    """Returns the name of the module that a class says it comes from; empty if it says nothing sensible."""
    module = _MODULE(kind)
    return module if type(module) is str else ""


def qualname_of(kind: type) -> str:
    """Returns the qualified name of a class."""
    name = _QUALNAME(kind)
    return name if type(name) is str else str.__str__(name)


def mro_of(kind: type) -> tuple[type, ...]:
    """Returns a class and its bases, in the order of look-up."""
    return _MRO(kind)  # type: ignore[no-any-return]


def namespace_of(kind: type) -> Mapping[str, object]:
    """Returns the names that a class itself defines."""
    return _NAMESPACE(kind)  # type: ignore[no-any-return]


def type_name(kind: type) -> str:
    """Returns how a summary calls a class: ``int``, ``Net`` for one of ``__main__``, ``pandas.DataFrame``."""
    module, name = module_of(kind), qualname_of(kind)
    if module in ("builtins", "__main__", ""):
        return clean(name)
    if module.startswith("pandas.core."):
        module = "pandas"
    elif module.startswith("polars."):
        module = "polars"
    elif module == "pyarrow.lib":
        module = "pyarrow"
    elif module.startswith("scipy.sparse."):
        module = "scipy.sparse"
    elif module.startswith(("torch.nn.modules.", "torch.nn.parameter")):
        module = "torch.nn"
    elif module.startswith("torch.optim."):
        module = "torch.optim"
    elif "._" in module:
        module = module.split("._", 1)[0]
    return clean(f"{module}.{name}")


def is_genuine(kind: type, library: str = "") -> bool:
    """Whether a class is what its name says: the one of that name in that loaded module (of ``library``)."""
    module = module_of(kind)
    found = sys.modules.get(module)
    return module.startswith(library) and found is not None and vars(found).get(qualname_of(kind)) is kind


def clean(text: str, limit: int = TEXT_LENGTH) -> str:
    """Returns a text that any encoder takes: bounded, lone surrogates escaped."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def number(value: float) -> object:
    """Returns a number as JSON can hold it: NaN and infinities as text."""
    return value if type(value) is not float or math.isfinite(value) else float.__repr__(value)


def rough(value: float) -> object:
    """Returns a computed statistic with nine significant digits: what summation order cannot change."""
    return float(f"{value:.9g}") if math.isfinite(value) else float.__repr__(float(value))


def instance_dict(value: object) -> dict[str, object]:
    """Returns an instance's own attributes, past ``__getattribute__``, ``__dict__`` properties and the like; empty if it has none."""
    for base in mro_of(type(value)):
        found = namespace_of(base).get("__dict__")
        if type(found) is types.GetSetDescriptorType:
            attributes = found.__get__(value)
            return attributes if issubclass(type(attributes), dict) else {}
    return {}


def item_of(value: object) -> object:
    """Returns a part of a value as summaries hold parts: a number as a number, anything else as its short text."""
    kind = type(value)
    if kind is bool or value is None or (kind is int and -(2**63) < value < 2**63):  # type: ignore[operator]
        return value
    return number(value) if kind is float else short_text(value)  # type: ignore[arg-type]


def short_text(value: Any, depth: int = 0) -> str:
    """Returns a bounded text of a value made of builtins, as its ``repr`` would begin; anything else is named by its type."""
    kind = id(type(value))
    if kind in _NUMBERS:
        if type(value) is int and value.bit_length() > _HUGE_BITS:
            return f"an int of {value.bit_length()} bits"
        return clean(repr(value))
    if kind in _STRINGS:
        return clean(repr(value[:_STRING_LENGTH])) + ("..." if len(value) > _STRING_LENGTH else "")
    if kind in _BRACKETS:
        return _short_items(value, _BRACKETS[kind], depth)
    if kind == id(dict):
        if depth >= _DEPTH:
            return f"<dict of {len(value)}>"
        pairs = [f"{short_text(key, depth + 1)}: {short_text(item, depth + 1)}" for key, item in islice(value.items(), _ITEMS)]
        return clean("{" + ", ".join(pairs) + (", ..." if len(value) > _ITEMS else "") + "}")
    shape = _shape_text(value)
    return shape if shape else f"<{type_name(type(value))}>"


def _short_items(value: Any, brackets: str, depth: int) -> str:
    kind = type(value)
    if depth >= _DEPTH:
        return f"<{kind.__name__} of {len(value)}>"
    if kind is set or kind is frozenset:
        if not value or len(value) > SET_ITEMS:
            return f"{kind.__name__}()" if not value else f"<{kind.__name__} of {len(value)}>"
        texts = sorted(short_text(item, depth + 1) for item in value)[:_ITEMS]
    else:
        texts = [short_text(item, depth + 1) for item in islice(value, _ITEMS)]
    ending = ", ..." if len(value) > _ITEMS else "," if kind is tuple and len(value) == 1 else ""
    return clean(brackets[0] + ", ".join(texts) + ending + brackets[1])


def _shape_text(value: Any) -> str:
    """Returns ``<numpy.ndarray (3, 4) float64>`` for arrays and tensors themselves, not for their subclasses."""
    kind = type(value)
    name = f"{module_of(kind)}.{qualname_of(kind)}"
    if name in ("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter") and is_genuine(kind):
        return f"<{type_name(kind)} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}>"
    if module_of(kind) == "numpy" and "." not in qualname_of(kind):
        return _numpy_scalar_text(value)
    return ""


def _numpy_scalar_text(value: Any) -> str:
    numpy = sys.modules.get("numpy")
    if numpy is None or not issubclass(type(value), numpy.generic) or not is_genuine(type(value)):
        return ""
    plain = value.item()
    return short_text(plain) if id(type(plain)) in _NUMBERS or id(type(plain)) in _STRINGS else clean(str(value))
