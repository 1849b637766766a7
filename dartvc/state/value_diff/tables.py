"""Stored arrays, tensors, series and tables as memory: found among the nodes of a pickle and compared an element or a cell at a time."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from xxhash import xxh3_128_digest

from dartvc.errors import DartvcError
from dartvc.model.records import NamedTuple
from dartvc.state.pickled import Node
from dartvc.state.value_diff.chunks import ArrayChunk, ArrayDiff, diff_arrays, itemsize_of

__all__ = ["TENSOR", "Contents", "diff_elements", "dtype_of", "shape_of"]

TENSOR = "dartvc.state.rebuild.torch_tensor"
"""What makes a tensor of a storage."""

_READ_BYTES = 64 * 1024 * 1024
_ARRAY = "dartvc.state.rebuild.numpy_array"
_STORAGE = "dartvc.state.rebuild.torch_storage"
_OBJECT_ARRAY = "dartvc.state.rebuild.numpy_object_array"
_OFFSETS = {"string": 4, "large_string": 8, "utf8": 4, "large_utf8": 8}


class Contents(NamedTuple):
    """One name's node in its co-variable's stream, the chunks of the co-variable's buffers, and how many of these are pickle's own."""

    value: Any
    buffers: Sequence[Sequence[ArrayChunk]]
    foreign: int = 0


class _Elements(NamedTuple):
    """The memory of an array: as numpy writes its dtype, its shape in the order of the memory, and which axis each of these is."""

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    chunks: Sequence[ArrayChunk]

    def diff(self, after: _Elements) -> ArrayDiff | None:
        """Counts what differs; None where the two are no arrays of one kind."""
        if (self.dtype, self.shape, self.order) != (after.dtype, after.shape, after.order):
            return None
        return diff_arrays(self.dtype, self.shape, self.chunks, after.chunks)

    def read(self) -> bytes:
        return b"".join(chunk.read() for chunk in self.chunks)


def diff_elements(before: Contents, after: Contents) -> ArrayDiff | Mapping[str, ArrayDiff] | None:
    """Counts the elements of an array, tensor or series, or the cells of each column of a table, that differ; None for anything else."""
    try:
        left, right = _elements(before, before.value), _elements(after, after.value)
        if left is not None and right is not None:
            return left.diff(right)
        old, new = _columns(before, before.value), _columns(after, after.value)
        if old is None or new is None:
            return None
        found = {name: diff for name in old.keys() & new.keys() if (diff := _diff_columns(old[name], new[name])) is not None}
        ordered = {str(name): found[name] for name in new if name in found}
        return ordered.get("") if list(new) == [""] else ordered
    except (DartvcError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, struct.error):
        return None


def dtype_of(node: Any) -> str:
    """Returns a dtype as numpy writes it: ``<f8``."""
    text = str(node.arguments()[0])
    state = node.state()
    order = state.parts[1] if isinstance(state, Node) and len(state.parts) > 1 else ""
    return text if text[:1] in "<>|=" or order not in ("<", ">") else order + text


def _elements(contents: Contents, node: Any) -> _Elements | None:
    """Returns the memory of a stored numpy array or tensor, in the stream or beside it."""
    if isinstance(node, Node) and node.calls() == TENSOR:
        return _tensor_elements(contents, node)
    if not isinstance(node, Node) or node.calls() != _ARRAY:
        return None
    source, dtype, shape, order, *_ = node.arguments()
    chunks = contents.buffers[source] if isinstance(source, int) else [_in_band(source)]
    return _Elements(dtype_of(dtype), tuple(shape.parts), tuple(order.parts), chunks)


def _tensor_elements(contents: Contents, node: Node) -> _Elements | None:
    """Returns the memory of a tensor that fills its storage; None for a view of a part."""
    source, dtype, offset, size, stride, *_ = node.arguments()
    owner = _elements(contents, source)
    if owner is not None:
        chunks = owner.chunks
    elif source.calls() == _STORAGE:
        content = source.arguments()[0]
        chunks = contents.buffers[content] if isinstance(content, int) else [_in_band(content)]
    else:
        return None
    kind, shape, strides = str(dtype.parts[1]), tuple(size.parts), tuple(stride.parts)
    order = sorted(range(len(shape)), key=lambda axis: -strides[axis])
    step = 1
    for axis in reversed(order):
        if shape[axis] != 1 and strides[axis] != step:
            return None
        step *= shape[axis]
    if offset or step * itemsize_of(kind) != sum(chunk.size_bytes for chunk in chunks):
        return None
    return _Elements(kind, tuple(shape[axis] for axis in order), tuple(order), chunks)


def shape_of(node: Node) -> tuple[int, ...] | None:
    """Returns the shape of a stored array or tensor; None for anything else."""
    if node.calls() == TENSOR:
        return tuple(node.arguments()[3].parts)
    if node.calls() != _ARRAY:
        return None
    shape, order = (part.parts for part in node.arguments()[2:4])
    return tuple(length for _, length in sorted(zip(order, shape, strict=True)))


def _in_band(data: bytes) -> ArrayChunk:
    return ArrayChunk(xxh3_128_digest(data), len(data), lambda: data)


class _Column(NamedTuple):
    """The cells of a column: their memory, or the values themselves."""

    elements: _Elements | None
    values: tuple[Any, ...] = ()


def _diff_columns(old: _Column, new: _Column) -> ArrayDiff | None:
    if old.elements is not None and new.elements is not None:
        return old.elements.diff(new.elements)
    if old.elements is not None or new.elements is not None or len(old.values) != len(new.values):
        return None
    if any(isinstance(value, Node) for value in (*old.values, *new.values)):
        return None  # objects: not for counting
    places = [place for place, (left, right) in enumerate(zip(old.values, new.values, strict=True)) if left != right and not (left != left and right != right)]
    return ArrayDiff(len(new.values), len(places), None, places[0] if places else None)


def _columns(contents: Contents, node: Any) -> dict[Any, _Column] | None:
    """Returns the columns of a stored table; a series has one without a name."""
    manager = _attribute(node, "_mgr") if isinstance(node, Node) and node.kind == "call" else None
    if not isinstance(manager, Node):
        return None
    if manager.calls().endswith(".SingleBlockManager"):
        return {"": _column(contents, manager.state().parts[1].parts[0])}
    if not manager.calls().endswith(".BlockManager"):
        return None
    blocks, axes = manager.arguments()[:2]
    names = _labels(contents, axes.parts[0])
    found: dict[Any, _Column] = {}
    for block in blocks.parts:
        values, places = block.arguments()[:2]
        for place, column in zip(_places(contents, places), _split(contents, values), strict=True):
            found[names[place]] = column
    return found


def _attribute(node: Node, name: str) -> Any:
    state = node.state()
    return state.pairs().get(name) if isinstance(state, Node) and state.kind == "dict" else None


def _places(contents: Contents, node: Node) -> Sequence[int]:
    if node.calls() == "builtins.slice":
        return range(*node.arguments())
    found = _elements(contents, node)
    if found is None:
        raise ValueError("no places")
    return struct.unpack(f"<{prod(found.shape)}q", found.read())


def _labels(contents: Contents, index: Node) -> Sequence[Any]:
    """Returns the labels of a stored index."""
    given = index.arguments()[1].pairs()
    if "start" in given:
        return range(given["start"], given["stop"], given["step"])
    column = _column(contents, given["data"])
    if column.elements is None:
        return column.values
    found = column.elements
    return struct.unpack(f"<{prod(found.shape)}{ {'<i8': 'q', '<f8': 'd'}[found.dtype] }", found.read())


def _split(contents: Contents, values: Node) -> list[_Column]:
    """Returns the columns of a block, which lie beside one another."""
    found = _elements(contents, values)
    if found is None or len(found.shape) < 2:
        objects = _objects(values)
        if objects is not None:
            (count, rows), items = objects
            if count * rows != len(items) or not rows:
                raise ValueError("not as many cells as the shape says")
            return [_Column(None, tuple(items[place * rows : (place + 1) * rows])) for place in range(count)]
        return [_column(contents, values)]
    if sum(chunk.size_bytes for chunk in found.chunks) > _READ_BYTES:
        raise ValueError("too large")
    data = found.read()
    count, rows = found.shape if found.order == (0, 1) else found.shape[::-1]
    size = len(data) // max(1, count * rows)
    if not size:
        raise ValueError("no cells")
    columns = []
    for place in range(count):
        if found.order == (0, 1):
            piece = data[place * rows * size : (place + 1) * rows * size]
        else:
            piece = b"".join(data[at : at + size] for at in range(place * size, len(data), count * size))
        columns.append(_Column(_Elements(found.dtype, (rows,), (0,), [_in_band(piece)])))
    return columns


def _objects(values: Node) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Returns the shape and the items of an array of objects, as it is stored here or by numpy itself (the labels of pandas 2)."""
    if values.calls() == _OBJECT_ARRAY:
        return values.arguments()[1].parts, values.state().parts
    if values.calls().endswith("multiarray._reconstruct"):
        _, shape, _, is_fortran, items = values.state().parts
        if isinstance(items, Node) and not is_fortran:
            return shape.parts, items.parts
    return None


def _column(contents: Contents, values: Node) -> _Column:
    """Returns the cells of one column, whichever way pandas keeps them.

    Raises:
        ValueError: it is kept in none of the known ways.
    """
    found = _elements(contents, values)
    if found is not None:
        return _Column(found)
    objects = _objects(values)
    if objects is not None:
        return _Column(None, tuple(objects[1]))
    if values.calls().endswith("__pyx_unpickle_NDArrayBacked"):
        kind, codes = values.state().parts[:2]
        return _categories(contents, kind, _column(contents, codes))
    arrow, data, mask = (_attribute(values, name) for name in ("_pa_array", "_data", "_mask"))
    if arrow is not None:
        return _Column(None, tuple(_arrow_texts(contents, arrow)))
    if data is not None and mask is not None:
        left, right = _elements(contents, data), _elements(contents, mask)
        if left is not None and right is not None:
            size = sum(chunk.size_bytes for chunk in left.chunks) // max(1, prod(left.shape))
            memory = left.read()
            cells = (memory[place * size : (place + 1) * size] if not absent else None for place, absent in enumerate(right.read()))
            return _Column(None, tuple(cells))
    raise ValueError("a column of an unknown kind")


def _categories(contents: Contents, kind: Node, codes: _Column) -> _Column:
    """Returns a column of categories with the categories themselves in place of their numbers."""
    categories = _attribute(kind, "categories")
    if categories is None or codes.elements is None:
        return codes
    labels = _labels(contents, categories)
    forms = {"|i1": "b", "<i2": "h", "<i4": "i", "<i8": "q"}
    numbers = struct.unpack(f"<{prod(codes.elements.shape)}{forms[codes.elements.dtype]}", codes.elements.read())
    return _Column(None, tuple(labels[number] if number >= 0 else None for number in numbers))


def _arrow_texts(contents: Contents, node: Node) -> list[str | None]:
    """Returns the texts of a stored Arrow array."""
    if node.calls() == "pyarrow.lib.chunked_array":
        return [text for part in node.arguments()[0].parts for text in _arrow_texts(contents, part)]
    if node.calls() != "pyarrow.lib._restore_array":
        raise ValueError("no array of Arrow")
    kind, length, _, offset, buffers, *_ = node.arguments()[0].parts
    width = _OFFSETS[kind.arguments()[0]]
    valid, starts, data = (_arrow_buffer(contents, part) for part in buffers.parts)
    ends = struct.unpack_from(f"<{length + 1}{'q' if width == 8 else 'i'}", starts or bytes(width), offset * width)
    return [
        None if valid and not valid[(offset + place) // 8] >> ((offset + place) % 8) & 1 else (data or b"")[ends[place] : ends[place + 1]].decode("utf-8", "replace")
        for place in range(length)
    ]


def _arrow_buffer(contents: Contents, node: Any) -> bytes | None:
    if node is None:
        return None
    source = node.arguments()[0]
    if isinstance(source, Node) and source.kind == "call":
        source = source.arguments()[0]
    if isinstance(source, bytes):
        return source
    chunks = contents.buffers[len(contents.buffers) - contents.foreign + source.parts[0]]
    return b"".join(chunk.read() for chunk in chunks)
