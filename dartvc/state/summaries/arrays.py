"""numpy arrays and random generators, and scipy's sparse matrices."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

from dartvc.state.summaries.instances import attribute_items
from dartvc.state.summaries.numbers import statistics
from dartvc.state.summaries.words import clean, instance_dict, module_of, namespace_of, short_text, type_name

__all__ = ["GENUINE", "describe_array"]

_FIELDS = 50
_MAPPED_RUNS = 4


def describe_array(value: Any) -> dict[str, object]:
    """Describes an array or an instance of a subclass: shape, dtype, bytes, statistics; first elements where there are none."""
    numpy = sys.modules["numpy"]
    kind = type(value)
    values = value if kind is numpy.ndarray else numpy.ndarray.view(value, numpy.ndarray)
    dtype = values.dtype
    found: dict[str, object] = {"type": type_name(kind), "shape": list(values.shape), "dtype": _dtype_text(dtype), "bytes": int(values.nbytes)}
    is_mapped = issubclass(kind, numpy.memmap)
    if is_mapped and kind is numpy.memmap:
        found["file"] = clean(str(instance_dict(value).get("filename")), 400)
    elif kind is not numpy.ndarray:
        attributes = attribute_items(value)
        if attributes:
            found["attributes"] = attributes
    if dtype.names is not None:
        found["fields"] = {clean(name): _dtype_text(dtype[name]) for name in dtype.names[:_FIELDS]}
    elif dtype.kind in "OSUTV":
        _describe_first(values, found)
    else:
        found.update(statistics(values, runs=_MAPPED_RUNS) if is_mapped else statistics(values))
    return found


def _dtype_text(dtype: Any) -> str:
    return clean(str(dtype)) if module_of(type(dtype)).startswith("numpy") else type_name(type(dtype))


def _describe_first(values: Any, found: dict[str, object]) -> None:
    first = list(islice(values.flat, 20)) if values.size else []
    if values.dtype.kind == "O":
        found["item_types"] = list(dict.fromkeys(type_name(type(item)) for item in first))
    found["repr"] = short_text(first[:6])[:-1] + (", ...]" if values.size > 6 else "]")


def _describe_generator(value: Any) -> dict[str, object]:
    """Describes a random generator by its kind and the digest of its state; nothing is drawn."""
    found: dict[str, object] = {"type": type_name(type(value))}
    source = getattr(value, "_bit_generator" if "_bit_generator" in namespace_of(type(value)) else "bit_generator")
    return found | _state_of(source)


def _describe_bit_generator(value: Any) -> dict[str, object]:
    return {"type": type_name(type(value))} | _state_of(value)


def _state_of(source: Any) -> dict[str, object]:
    if not module_of(type(source)).startswith("numpy.random"):
        return {}
    parts: list[object] = []
    _flatten(source.state, parts)
    return {"bit_generator": type(source).__name__, "state": _digest(repr(parts).encode())}


def _flatten(state: Any, parts: list[object]) -> None:
    for key, part in state.items():
        if type(part) is dict:
            _flatten(part, parts)
        else:
            parts.append((key, part.tobytes() if hasattr(part, "tobytes") else part))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _describe_random(value: Any) -> dict[str, object]:
    state = random.Random.getstate(value) if type(value) is random.Random else None
    found: dict[str, object] = {"type": type_name(type(value))}
    return found | ({"state": _digest(repr(state).encode())} if state is not None else {})


def _describe_sparse(value: Any) -> dict[str, object]:
    parts = instance_dict(value)
    numpy = sys.modules["numpy"]
    shape: Any = parts.get("_shape", ())
    found: dict[str, object] = {"type": type_name(type(value)), "shape": [int(length) for length in shape]}
    data = parts.get("data")
    if type(data) is numpy.ndarray:
        values: Any = data
        found |= {"dtype": _dtype_text(values.dtype)}
        if values.dtype.kind != "O":
            held: list[Any] = [part for part in parts.values() if type(part) is numpy.ndarray]
            found |= {"stored": int(values.size), "bytes": sum(int(part.nbytes) for part in held)}
            found |= statistics(values)
    elif type(parts.get("_dict")) is dict:
        found |= {"dtype": _dtype_text(parts.get("dtype", "")), "stored": len(parts["_dict"])}  # type: ignore[arg-type]
    return found


GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {
    "numpy.ndarray": describe_array,
    "numpy.random._generator.Generator": _describe_generator,
    "numpy.random.mtrand.RandomState": _describe_generator,
    "numpy.random.bit_generator.BitGenerator": _describe_bit_generator,
    "random.Random": _describe_random,
    "scipy.sparse._base._spbase": _describe_sparse,
}
"""Describers by the dotted name of a base class."""

