"""What people are told about a value: a small JSON object, made without running any of the user's code.

Never calls ``__repr__``, ``__len__`` or properties of user classes; never raises; costs at most about a millisecond, so statistics of large arrays
are taken from a strided sample and say so. Keys keep their order: ``type`` first.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["summarize"]

_TEXT_LENGTH = 200
_SAMPLE = 10_000
_COLUMNS = 50
_ATTRIBUTES = 20
_PLAIN = (int, float, complex, bool, type(None), str, bytes, bytearray, range)


def summarize(value: object) -> Mapping[str, object]:
    """Describes a value.

    Returns:
        A JSON object: ``type``, then what its kind has: ``repr``, ``length``, ``shape``, ``dtype``, ``min``, ``columns``, ``source`` ...
    """
    kind = type(value)
    try:
        if kind in (int, float, bool, type(None)):
            return {"type": kind.__name__, "repr": repr(value)[:_TEXT_LENGTH]}
        describe = _DESCRIBERS.get(kind)
        if describe is None:
            describe = _find_describer(kind)
        return describe(value)
    except Exception:
        return {"type": _type_name(kind)}


def _type_name(kind: type) -> str:
    module = type.__getattribute__(kind, "__module__")
    name = type.__getattribute__(kind, "__qualname__")
    return str(name) if module in ("builtins", "__main__") else f"{module}.{name}"


def _short(value: object, depth: int = 0) -> str:
    """Returns a bounded text of a value made of builtins; anything else is named by its type."""
    kind = type(value)
    if kind in (str, bytes, bytearray) and isinstance(value, str | bytes | bytearray):
        return repr(value[:80]) + ("..." if len(value) > 80 else "")
    if kind in _PLAIN:
        text = repr(value) if kind is not int or -(10**60) < value < 10**60 else "a huge int"  # type: ignore[operator]
        return text[:80]
    if depth < 2 and kind in (list, tuple, set, frozenset) and isinstance(value, list | tuple | set | frozenset):
        items = [_short(item, depth + 1) for _, item in zip(range(6), value, strict=False)]
        left, right = {list: "[]", tuple: "()", set: "{}", frozenset: "{}"}[kind]
        return left + ", ".join(items) + (", ..." if len(value) > 6 else "") + right
    if depth < 2 and kind is dict and isinstance(value, dict):
        pairs = [f"{_short(key, depth + 1)}: {_short(item, depth + 1)}" for _, (key, item) in zip(range(6), value.items(), strict=False)]
        return "{" + ", ".join(pairs) + (", ..." if len(value) > 6 else "") + "}"
    return f"<{_type_name(kind)}>"


def _describe_text(value: Any) -> Mapping[str, object]:
    return {"type": type(value).__name__, "length": len(value), "repr": _short(value)}


def _describe_container(value: Any) -> Mapping[str, object]:
    return {"type": type(value).__name__, "length": len(value), "repr": _short(value)[:_TEXT_LENGTH]}


def _describe_function(value: Any) -> Mapping[str, object]:
    import linecache

    code = value.__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found: dict[str, object] = {"type": "function", "signature": f"{value.__name__}({', '.join(arguments)})"}
    lines = linecache.cache.get(code.co_filename)
    if lines is not None and len(lines) == 4:
        last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
        found["source"] = [line.rstrip("\n") for line in lines[2][code.co_firstlineno - 1 : last][:60]]  # type: ignore[index]
    return found


def _describe_class(value: Any) -> Mapping[str, object]:
    members = [name for name in type.__getattribute__(value, "__dict__") if not name.startswith("__")]
    bases = [_type_name(base) for base in value.__mro__[1:-1]]
    return {"type": "class", "name": _type_name(value), "bases": bases[:8], "members": sorted(members)[:40]}


def _describe_module(value: Any) -> Mapping[str, object]:
    version = vars(value).get("__version__")
    return {"type": "module", "name": value.__name__, **({"version": version} if isinstance(version, str) else {})}


def _number(value: Any) -> object:
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, float):
        return round(number, 12) if math.isfinite(number) else str(number)
    return number if isinstance(number, int | bool) else str(number)[:60]


def _describe_array(value: Any) -> Mapping[str, object]:
    found: dict[str, object] = {"type": _type_name(type(value)).replace("numpy.", ""), "shape": list(value.shape), "dtype": str(value.dtype)}
    found["bytes"] = int(value.nbytes)
    if value.dtype.kind not in "biuf" or not value.size:
        return found
    numpy = sys.modules["numpy"]
    flat = numpy.ndarray.view(value, numpy.ndarray).reshape(-1) if value.flags.c_contiguous else None
    if flat is None:
        sample = numpy.array(numpy.ndarray.view(value, numpy.ndarray)[tuple(slice(None, 22) for _ in value.shape)]).reshape(-1)
    else:
        sample = flat if flat.size <= _SAMPLE else flat[:: -(-flat.size // _SAMPLE)]
    if sample.size < value.size:
        found["sampled"] = int(sample.size)
    finite = sample
    if value.dtype.kind == "f":
        missing = numpy.isnan(sample)
        count = int(missing.sum())
        if count:
            found["nan"] = count
            finite = sample[~missing]
    if finite.size:
        with numpy.errstate(all="ignore"):
            found.update(min=_number(finite.min()), max=_number(finite.max()), mean=_number(finite.mean(dtype=float)))
    return found


def _describe_frame(value: Any) -> Mapping[str, object]:
    rows, width = value.shape
    columns: dict[str, object] = {}
    blocks = value.dtypes
    for position, (name, dtype) in enumerate(zip(list(value.columns[:_COLUMNS]), list(blocks.iloc[:_COLUMNS]), strict=True)):
        columns[_short(name) if not isinstance(name, str) else name] = _describe_column(value, position, dtype, rows)
    found: dict[str, object] = {"type": _type_name(type(value)), "rows": rows, "columns": width, "dtypes": columns}
    if width > _COLUMNS:
        found["more_columns"] = width - _COLUMNS
    return found


def _describe_column(frame: Any, position: int, dtype: Any, rows: int) -> str:
    text = str(dtype)
    if not rows:
        return text
    head = frame.iloc[:1000, position] if rows > 1000 else frame.iloc[:, position]
    nulls = int(head.isna().sum())
    return text + (f", {nulls} null" + (" in the first 1000" if rows > 1000 else "") if nulls else "")


def _describe_series(value: Any) -> Mapping[str, object]:
    return {"type": _type_name(type(value)), "length": len(value), "dtype": str(value.dtype), "name": _short(value.name)}


def _describe_index(value: Any) -> Mapping[str, object]:
    return {"type": _type_name(type(value)), "length": len(value), "dtype": str(value.dtype)}


def _describe_tensor(value: Any) -> Mapping[str, object]:
    torch = sys.modules["torch"]
    found: dict[str, object] = {"type": _type_name(type(value)), "shape": list(value.shape), "dtype": str(value.dtype).replace("torch.", "")}
    found["device"] = str(value.device)
    if value.requires_grad:
        found["requires_grad"] = True
    if value.numel() and value.device.type == "cpu" and value.layout is torch.strided and (value.is_floating_point() or not value.is_complex()):
        with torch.no_grad():
            flat = value.detach().reshape(-1) if value.is_contiguous() else value.detach().flatten()[:_SAMPLE]
            sample = (flat if flat.numel() <= _SAMPLE else flat[:: -(-flat.numel() // _SAMPLE)]).double()
            if sample.numel() < value.numel():
                found["sampled"] = sample.numel()
            found.update(min=_number(sample.min()), max=_number(sample.max()), mean=_number(sample.mean()))
    return found


def _describe_torch_module(value: Any) -> Mapping[str, object]:
    torch = sys.modules["torch"]
    parameters = list(torch.nn.Module.named_parameters(value))
    layers: dict[str, object] = {}
    for name, parameter in parameters[:_COLUMNS]:
        norm = parameter.detach().norm() if parameter.device.type == "cpu" and parameter.numel() <= 1_000_000 else None
        layers[name] = f"{tuple(parameter.shape)}" + (f" norm {_number(norm)}" if norm is not None else "")
    total = sum(parameter.numel() for _, parameter in parameters)
    return {"type": _type_name(type(value)), "parameters": total, "training": bool(value.training), "layers": layers}


def _describe_arrow(value: Any) -> Mapping[str, object]:
    return {"type": _type_name(type(value)), "rows": value.num_rows, "columns": {field.name: str(field.type) for field in list(value.schema)[:_COLUMNS]}}


def _describe_polars(value: Any) -> Mapping[str, object]:
    return {"type": _type_name(type(value)), "rows": value.height, "dtypes": {name: str(kind) for name, kind in list(value.schema.items())[:_COLUMNS]}}


def _describe_sparse(value: Any) -> Mapping[str, object]:
    return {"type": _type_name(type(value)), "shape": list(value.shape), "dtype": str(value.dtype), "stored": int(value.nnz)}


def _describe_instance(value: Any) -> Mapping[str, object]:
    kind = type(value)
    found: dict[str, object] = {"type": _type_name(kind)}
    attributes: object = None
    for base in kind.__mro__:
        getter = vars(base).get("__dict__")
        if isinstance(getter, types.GetSetDescriptorType):
            attributes = getter.__get__(value)
            break
    if isinstance(attributes, dict) and attributes:
        found["attributes"] = {str(key): _attribute(part) for _, (key, part) in zip(range(_ATTRIBUTES), attributes.items(), strict=False)}
        if len(attributes) > _ATTRIBUTES:
            found["more_attributes"] = len(attributes) - _ATTRIBUTES
    for builtin in (dict, list, tuple, set, str, int, float):
        if issubclass(kind, builtin) and builtin not in (int, float):
            found["length"] = builtin.__len__(value)  # type: ignore[attr-defined]
        elif issubclass(kind, builtin):
            found["repr"] = builtin.__repr__(value)[:80]
    return found


def _attribute(value: object) -> str:
    kind = type(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray:
        array: Any = value
        return f"array {tuple(array.shape)} {array.dtype}"
    if kind in (list, dict, tuple, set) and isinstance(value, list | dict | tuple | set) and len(value) > 6:
        return f"{kind.__name__} of {len(value)}"
    return _short(value)


_DESCRIBERS: dict[type, Callable[[Any], Mapping[str, object]]] = {
    str: _describe_text,
    bytes: _describe_text,
    bytearray: _describe_text,
    complex: lambda value: {"type": "complex", "repr": repr(value)},
    list: _describe_container,
    tuple: _describe_container,
    dict: _describe_container,
    set: _describe_container,
    frozenset: _describe_container,
    types.FunctionType: _describe_function,
    types.ModuleType: _describe_module,
}
_BY_NAME: dict[str, Callable[[Any], Mapping[str, object]]] = {
    "numpy.ndarray": _describe_array,
    "pandas.core.frame.DataFrame": _describe_frame,
    "pandas.DataFrame": _describe_frame,
    "pandas.core.series.Series": _describe_series,
    "pandas.Series": _describe_series,
    "pandas.core.indexes.base.Index": _describe_index,
    "pandas.Index": _describe_index,
    "torch.Tensor": _describe_tensor,
    "torch.nn.modules.module.Module": _describe_torch_module,
    "pyarrow.lib.Table": _describe_arrow,
    "polars.dataframe.frame.DataFrame": _describe_polars,
    "scipy.sparse._base._spbase": _describe_sparse,
    "builtins.type": _describe_class,
}


def _find_describer(kind: type) -> Callable[[Any], Mapping[str, object]]:
    for base in kind.__mro__[:-1]:
        found = _BY_NAME.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
    return _describe_instance
