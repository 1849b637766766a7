"""torch: tensors, modules and optimizers.

Statistics are taken of plain strided tensors in main memory only: asking an accelerator would wait for it, and a subclass would
run its own dispatch.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dartvc.state.summaries.instances import attribute_items
from dartvc.state.summaries.words import clean, instance_dict, item_of, number, rough, type_name

__all__ = ["GENUINE", "describe_tensor"]

_LAYERS = 50
_PARAMETERS = 5_000
_EXACT = 65_536
_RUNS = 64
_RUN_ELEMENTS = 128
_LAYER_SAMPLE = 4_096


def describe_tensor(value: Any) -> dict[str, object]:
    """Describes a tensor: shape, dtype, device, gradient, statistics and norm."""
    torch = sys.modules["torch"]
    kind = type(value)
    with torch._C.DisableTorchFunctionSubclass():
        tensor = torch.Tensor
        shape, dtype, device = (tensor.__dict__.get(name) or getattr(torch._C.TensorBase, name) for name in ("shape", "dtype", "device"))
        found: dict[str, object] = {"type": type_name(kind), "shape": list(shape.__get__(value)), "dtype": str(dtype.__get__(value))[6:]}
        found["device"] = str(device.__get__(value))
        if torch._C.TensorBase.requires_grad.__get__(value):
            found["requires_grad"] = True
        if _is_plain(torch, value):
            with torch.no_grad():
                found.update(_statistics(torch, value.detach()))
                gradient = value.grad if value.is_leaf else None
                if gradient is not None:
                    found["grad_norm"] = _norm(torch, gradient, _EXACT)[0]
    return found


def _is_plain(torch: Any, value: Any) -> bool:
    is_plain = type(value) in (torch.Tensor, torch.nn.Parameter) and value.device.type == "cpu" and value.layout is torch.strided
    return bool(is_plain and not value.is_quantized)


def _sample(values: Any, limit: int) -> Any:
    """Returns a tensor's elements flat, or short runs of them where there are more than ``limit``."""
    count = values.numel()
    if count <= limit:
        return values.reshape(-1)
    if values.is_contiguous():
        runs = min(_RUNS, limit // _RUN_ELEMENTS)
        step = count // runs
        return values.view(-1)[: step * runs].view(runs, step)[:, :_RUN_ELEMENTS].reshape(-1)
    share = max(1, int(limit ** (1 / values.dim())))
    return values[tuple(slice(None, None, max(1, -(-length // share))) for length in values.shape)].reshape(-1)


def _statistics(torch: Any, values: Any) -> dict[str, object]:
    count = values.numel()
    if not count:
        return {}
    sample = _sample(values, _EXACT)
    found: dict[str, object] = {"sampled": sample.numel()} if sample.numel() < count else {}
    if values.is_complex():
        return found | {"norm": _norm(torch, values, _EXACT)[0]}
    sample = sample.double()
    missing = torch.isnan(sample)
    nans = int(missing.sum())
    if nans:
        found["nan"] = nans
        sample = sample[~missing]
    if sample.numel():
        low, high = (part.item() for part in torch.aminmax(sample))
        if not values.is_floating_point():
            low, high = int(low), int(high)
        found.update(min=number(low), max=number(high), mean=rough(sample.mean().item()))
        found["norm"] = rough(torch.linalg.vector_norm(sample).item() * (count / sample.numel()) ** 0.5)
    return found


def _norm(torch: Any, values: Any, limit: int) -> tuple[object, bool]:
    """Returns the Euclidean norm, estimated where only a sample was read, and whether it was."""
    count = values.numel()
    if not count:
        return 0.0, False
    sample = _sample(values.detach(), limit)
    norm = torch.linalg.vector_norm(sample if sample.is_complex() else sample.double()).item()
    return rough(norm * (count / sample.numel()) ** 0.5), sample.numel() < count


def _iter_parameters(module: Any, table: str) -> Iterator[tuple[str, Any]]:
    """Yields the parameters (or buffers) of a module and of those inside it, each once, read from where `torch.nn.Module` keeps them."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", module)]
    while waiting and len(seen) < _PARAMETERS:
        prefix, current = waiting.pop()
        if id(current) in seen or current is None:
            continue
        seen.add(id(current))
        parts = instance_dict(current)
        held: Any = parts.get(table, {})
        for name, value in dict.items(held):
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                yield f"{prefix}{name}", value
        inside: Any = parts.get("_modules", {})
        children = [(f"{prefix}{name}.", child) for name, child in dict.items(inside)]
        waiting.extend(reversed(children))


def _describe_module(value: Any) -> dict[str, object]:
    """Describes a module: how many parameters, and each layer's shape and norm."""
    torch = sys.modules["torch"]
    layers: dict[str, object] = {}
    total = trained = more = 0
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        for name, parameter in _iter_parameters(value, "_parameters"):
            count = torch.Tensor.numel(parameter)
            total += count
            trained += count if torch._C.TensorBase.requires_grad.__get__(parameter) else 0
            if len(layers) < _LAYERS:
                layers[clean(name)] = _layer(torch, parameter)
            else:
                more += 1
    found: dict[str, object] = {"type": type_name(type(value)), "parameters": total, "trainable": trained}
    found["training"] = instance_dict(value).get("training") is True
    own = {name: part for name, part in attribute_items(value).items() if not name.startswith("_") and name != "training"}
    found |= {"attributes": own} if own else {}
    return found | {"layers": layers} | ({"more_layers": more} if more else {})


def _layer(torch: Any, parameter: Any) -> dict[str, object]:
    shape = (torch.Tensor.__dict__.get("shape") or torch._C.TensorBase.shape).__get__(parameter)
    found: dict[str, object] = {"shape": "x".join(map(str, shape))}
    if _is_plain(torch, parameter):
        norm, is_sampled = _norm(torch, parameter, _LAYER_SAMPLE)
        found["norm"] = norm
        if is_sampled:
            found["sampled"] = _LAYER_SAMPLE
    return found


def _describe_optimizer(value: Any) -> dict[str, object]:
    """Describes an optimizer: the settings of each group of parameters, and how many parameters have a state."""
    parts = instance_dict(value)
    groups: Any = parts.get("param_groups", [])
    described = []
    for group in groups[:10]:
        settings = {clean(str(key)): item_of(part) for key, part in dict.items(group) if key != "params" and type(key) is str}
        described.append({"params": len(group["params"])} | settings)
    state: Any = parts.get("state", {})
    return {"type": type_name(type(value)), "state": dict.__len__(state), "groups": described}


def _describe_random(value: Any) -> dict[str, object]:
    state = value.get_state().numpy().tobytes() if value.device.type == "cpu" else b""
    found: dict[str, object] = {"type": type_name(type(value)), "device": str(value.device)}
    return found | ({"state": hashlib.sha256(state).hexdigest()[:12]} if state else {})


GENUINE: dict[str, Callable[[Any], dict[str, object]]] = {
    "torch.Tensor": describe_tensor,
    "torch.nn.modules.module.Module": _describe_module,
    "torch.optim.optimizer.Optimizer": _describe_optimizer,
    "torch._C.Generator": _describe_random,
}
"""Describers by the dotted name of a base class."""

