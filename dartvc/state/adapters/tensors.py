"""torch: storages out of band, tensors as views of them, gradients, devices.

Two tensors over one storage come back over one storage, and so do an array and a tensor that share memory. A tensor that is the
result of a computation comes back as its value: the graph behind it lives in C++ and is not part of any commit.
"""

from __future__ import annotations

import collections
import gc
import sys
from collections.abc import Callable, Iterable
from typing import Any

from dartvc.state.adapters.arrays import Detached
from dartvc.state.adapters.guarded import runs_code_when_pickled
from dartvc.state.rebuild import door
from dartvc.state.strings import with_interned_keys

__all__ = ["BUILDERS", "CHILDREN", "REDUCERS", "TRANSIENT", "is_parametrized_kind", "reduce_parametrized"]


def _bytes_of(storage: Any) -> memoryview:
    """Returns a CPU storage's memory; not by way of ``Tensor.numpy``, which would make the storage impossible to resize."""
    import ctypes

    return memoryview((ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())).cast("B")


def _reduce_storage(storage: Any, saving: Any) -> Any:
    size = storage.nbytes()
    is_copy = str(storage.device) != "cpu"
    if is_copy:
        storage = saving.keep(storage.cpu())
    if not size:
        return door("torch_storage"), (b"", 0)
    saving.keep(storage)
    content = _bytes_of(storage)
    return door("torch_storage"), ((bytes(content) if size < 64 * 1024 else saving.out_of_band(content, is_copy=is_copy)), size)


def _reduce_tensor(tensor: Any, saving: Any) -> Any:
    torch = sys.modules["torch"]
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not plain or tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return tensor.__reduce_ex__(5)
    owner = _numpy_owner(tensor, saving)
    source = owner if owner is not None else _storage_token(tensor, saving)
    if saving.keeps_strings and (reason := _why_not_now(tensor)):
        raise saving.refuse(tensor, reason)
    if not tensor.is_leaf:
        saving.notes.append("a tensor computed with gradients was stored as its value, without the graph that computed it")
    described = (source, tensor.dtype, tensor.storage_offset(), tuple(tensor.size()), tensor.stride(), str(tensor.device))
    flags = (
        type(tensor) is torch.nn.Parameter,
        bool(tensor.requires_grad and tensor.is_leaf),
        bool(tensor.is_conj()),
        bool(tensor.is_neg()),
        *((True,) if tensor.is_inference() else ()),
    )
    state: tuple[Any, ...] = (tensor.grad if tensor.is_leaf else None, dict(tensor.__dict__))
    hooks = _hooks_of(tensor)
    if reason := _why_hooks_are_lost(tensor, hooks):
        raise saving.refuse(tensor, reason)
    if hooks == _NO_HOOKS:
        return door("torch_tensor"), (*described, *flags), saving.keep(state), None, None, door("torch_tensor_state")
    return door("torch_tensor"), (*described, *flags), saving.keep((*state, *hooks)), None, None, door("torch_hooked_tensor_state")


_NO_HOOKS = None, None


def _hooks_of(tensor: Any) -> tuple[Any, Any]:
    """Returns what a leaf calls with its gradient, and what when that was added to what it has; each a dict by number, which handles refer to."""
    return (tensor._backward_hooks, tensor._post_accumulate_grad_hooks) if tensor.is_leaf else _NO_HOOKS


def _why_hooks_are_lost(tensor: Any, hooks: tuple[Any, Any]) -> str:
    """Returns what is hooked to the node that adds up a leaf's gradients, which a tensor does not know, and nothing leads back to."""
    torch = sys.modules["torch"]
    library = sys.modules.get("torch.utils.hooks")
    if not library or not library.RemovableHandle.next_id or not tensor.is_leaf or not tensor.requires_grad:
        return ""  # nothing was ever hooked to anything
    if torch.is_inference_mode_enabled() or torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return ""  # what is done to a tensor now is watched, or has no graph
    with torch.enable_grad():
        node = tensor.view_as(tensor).grad_fn.next_functions[0][0]
    if all(any(each is known for known in hooks) for each in gc.get_referents(node) if isinstance(each, dict) and each):
        return ""
    return "something is hooked to the node that adds up its gradient (register_multi_grad_hook, AccumulateGrad.register_hook), and cannot be stored"


def _why_not_now(tensor: Any) -> str:
    return (
        ""
        if tensor.is_leaf or not _has_live_graph(tensor)
        else "the graph that computed it is still needed for backward() and cannot be stored"
    )


def _has_live_graph(tensor: Any) -> bool:
    """Whether ``backward()`` could still run through what computed a tensor: afterwards what the graph had saved is gone."""
    todo, seen = [tensor.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for name in dir(node):
            if name.startswith("_saved_"):
                try:
                    value = getattr(node, name)
                except RuntimeError:
                    return False  # freed by a backward()
                if hasattr(value, "untyped_storage"):
                    return True
        todo.extend(each for each, _ in node.next_functions)
    return True


def _storage_token(tensor: Any, saving: Any) -> Any:
    """Returns one Python object per storage, so that the pickler's memo sees the sharing."""
    storage = tensor.untyped_storage()
    key = ("torch", str(storage.device), storage.data_ptr() or id(storage))
    return saving.regions.setdefault(key, storage)


def _numpy_owner(tensor: Any, saving: Any) -> Any:
    """Returns the array that owns a tensor's memory (``torch.from_numpy``), None for torch's own memory."""
    storage = tensor.untyped_storage()
    if tensor.device.type != "cpu" or storage.resizable() or "numpy" not in sys.modules:
        return None
    key = ("numpy", storage.data_ptr())
    owner = saving.regions.get(key)
    if owner is None:
        torch = sys.modules["torch"]
        owner = saving.regions[key] = Detached(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())
    return owner


def _tensor_children(tensor: Any) -> Iterable[object]:
    torch = sys.modules["torch"]
    if tensor.layout is torch.strided and tensor.device.type != "meta":
        pointer = tensor.untyped_storage().data_ptr()
        if pointer:
            yield ("memory", pointer)
    if tensor.is_leaf and tensor.grad is not None:
        yield tensor.grad
    yield from (hooks for hooks in _hooks_of(tensor) if hooks is not None)
    yield tensor.__dict__


def _build_storage(loading: Any, source: Any, size: int) -> Any:
    torch = loading.library("torch")
    storage = torch.UntypedStorage(size)
    if size:
        target = _bytes_of(storage)
        if isinstance(source, int):
            loading.read_buffer_into(source, target)
        else:
            target[:] = source
    return storage


def _build_tensor(
    loading: Any,
    source: Any,
    dtype: Any,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    device: str,
    is_parameter: bool,
    requires_grad: bool,
    conjugate: bool,
    negative: bool,
    is_inference: bool = False,
) -> Any:
    torch = loading.library("torch")
    if not isinstance(source, torch.UntypedStorage):
        source = torch.from_numpy((source if source.flags.c_contiguous else source.T).reshape(-1).view("u1")).untyped_storage()
    place = loading.device_for(device)
    if place != "cpu":
        source = loading.moved(source, place, lambda: torch.empty(0, dtype=torch.uint8).set_(source).to(place).untyped_storage())
    with torch.inference_mode(is_inference):
        tensor = torch.empty(0, dtype=dtype, device=place).set_(source, offset, size, stride)
        if conjugate:
            tensor = tensor.conj()
        if negative:
            tensor = torch._neg_view(tensor)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad) if requires_grad else tensor


def _set_tensor_state(loading: Any, tensor: Any, state: tuple[Any, dict[str, Any]]) -> None:
    grad, attributes = state
    if grad is not None:
        tensor.grad = grad
    if attributes:
        tensor.__dict__.update(attributes)


def _set_hooked_tensor_state(loading: Any, tensor: Any, state: tuple[Any, dict[str, Any], Any, Any]) -> None:
    grad, attributes, backward, accumulated = state
    _set_tensor_state(loading, tensor, (grad, attributes))
    if backward is not None:
        tensor._backward_hooks = backward
    if accumulated is not None:
        tensor._post_accumulate_grad_hooks = accumulated


def _build_as_numpy(loading: Any, tensor: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
    numpy = loading.library("numpy")
    storage = tensor.detach().numpy()
    made = numpy.lib.stride_tricks.as_strided(storage.reshape(-1)[offset // storage.itemsize :] if offset else storage, shape, strides)
    return made if made.dtype == dtype else made.view(dtype)


def _reduce_limits(limits: Any, saving: Any) -> Any:
    torch = sys.modules["torch"]
    return door("torch_limits"), (type(limits).__name__, getattr(torch, limits.dtype))


def _reduce_generator(generator: Any, saving: Any) -> Any:
    return door("torch_generator"), (str(generator.device), generator.get_state())


def _build_generator(loading: Any, device: str, state: Any) -> Any:
    torch = loading.library("torch")
    place = loading.device_for(device)
    generator = torch.Generator(place)
    if torch.device(place).type == torch.device(device).type:
        generator.set_state(state)
    else:  # another device's generator draws other numbers: it begins at the same seed, where that can be read
        generator.manual_seed(int.from_bytes(bytes(state[:8].tolist()), "little"))
        loading.note(f"a generator of {device} begins again at its seed on {place}")
    return generator


def _reduce_device(device: Any, saving: Any) -> Any:
    return door("torch_device"), (str(device),)


def _build_device(loading: Any, recorded: str) -> Any:
    """A device is a name, which need not be here; with a map it goes where its tensors go."""
    return loading.library("torch").device(loading.device_for(recorded) if loading.map_device else recorded)


def _reduce_optimizer(optimizer: Any, saving: Any) -> Any:
    """Stores all attributes: the class's own ``__getstate__`` leaves out those of subclasses (LBFGS) and what schedulers hooked in."""
    return door("torch_optimizer"), (type(optimizer),), saving.keep(dict(vars(optimizer))), None, None, door("torch_optimizer_state")


def _set_optimizer_state(loading: Any, optimizer: Any, state: dict[str, Any]) -> None:
    vars(optimizer).update(state)
    optimizer._patch_step_function()


def is_parametrized_kind(kind: type) -> bool:
    """Whether a class was made for one module by `torch.nn.utils.parametrize`, which lets no object of it pickle itself."""
    return kind.__module__ == "torch.nn.utils.parametrize" and "__getstate__" in vars(kind) and len(kind.__bases__) == 1


def reduce_parametrized(module: Any, saving: Any) -> Any:
    """Takes a module with parametrizations apart as one of its first class that changes its class later, which is what torch does.

    The class is stored by value: copies of the module share it, and its properties lead back to the module.
    """
    from dartvc.state.saving import UserCodeMet

    kind = type(module)
    base = kind.__bases__[0]
    if saving.spares_user_code and runs_code_when_pickled(base):
        raise UserCodeMet
    state = super(kind, module).__getstate__()
    return door("torch_parametrized"), (base,), saving.keep((kind, state)), None, None, door("torch_parametrized_state")


def _set_parametrized_state(loading: Any, module: Any, state: tuple[type, Any]) -> None:
    kind, attributes = state
    module.__class__ = kind
    module.__setstate__(with_interned_keys(attributes) if type(attributes) is dict else attributes)


_BY_OPTIMIZER = "_per_optimizer_states"
"""What a scaler holds between ``unscale_`` or ``step`` and ``update``, by the identity of the optimizer, to which it does not refer."""


def _owners(scaler: Any) -> dict[int, object]:
    """Returns the optimizers that a scaler has something of, by identity."""
    states = vars(scaler).get(_BY_OPTIMIZER)
    return {id(each): each for each in gc.get_objects() if id(each) in states} if states else {}


def _reduce_scaler(scaler: Any, saving: Any) -> Any:
    """Stores all attributes: the class's own ``__getstate__`` leaves out the scale, and refuses where an optimizer is on its way."""
    attributes, owners = dict(vars(scaler)), _owners(scaler)
    states = attributes.pop(_BY_OPTIMIZER, None)  # none where it is not enabled
    held = None if states is None else (states.default_factory, [(owners.get(key, key), each) for key, each in states.items()])
    return door("torch_scaler"), (type(scaler),), saving.keep((attributes, held)), None, None, door("torch_scaler_state")


def _set_scaler_state(loading: Any, scaler: Any, state: tuple[dict[str, Any], Any]) -> None:
    attributes, held = state
    vars(scaler).update(attributes)
    if held is not None:
        states = ((owner if type(owner) is int else id(owner), each) for owner, each in held[1])
        vars(scaler)[_BY_OPTIMIZER] = collections.defaultdict(held[0], states)


def _scaler_children(scaler: Any) -> Iterable[object]:
    return (*vars(scaler).values(), *_owners(scaler).values())


def _reduce_record_function(region: Any, saving: Any) -> Any:
    return door("torch_record_function"), (region.name, region.args, region.record is not None)


def _build_record_function(loading: Any, name: str, arguments: Any, is_entered: bool) -> Any:
    region = loading.library("torch.autograd.profiler").record_function(name, arguments)
    return region.__enter__() if is_entered else region


REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "torch.autograd.profiler.record_function": _reduce_record_function,
    "torch.optim.optimizer.Optimizer": _reduce_optimizer,
    "torch.amp.grad_scaler.GradScaler": _reduce_scaler,
    "torch.storage.UntypedStorage": _reduce_storage,
    "torch.Tensor": _reduce_tensor,
    "torch._C.TensorBase": _reduce_tensor,
    "torch._C.Generator": _reduce_generator,
    "torch.device": _reduce_device,
    "torch.finfo": _reduce_limits,
    "torch.iinfo": _reduce_limits,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    "torch_record_function": _build_record_function,
    "torch_optimizer": lambda loading, kind: kind.__new__(kind),
    "torch_optimizer_state": _set_optimizer_state,
    "torch_parametrized": lambda loading, kind: kind.__new__(kind),
    "torch_parametrized_state": _set_parametrized_state,
    "torch_scaler": lambda loading, kind: kind.__new__(kind),
    "torch_scaler_state": _set_scaler_state,
    "torch_storage": _build_storage,
    "torch_tensor": _build_tensor,
    "torch_tensor_state": _set_tensor_state,
    "torch_hooked_tensor_state": _set_hooked_tensor_state,
    "torch_as_numpy": _build_as_numpy,
    "torch_generator": _build_generator,
    "torch_device": _build_device,
    "torch_limits": lambda loading, kind, dtype: getattr(loading.library("torch"), kind)(dtype),
}
TRANSIENT: dict[str, Callable[[Any], str]] = {"torch.Tensor": _why_not_now}
CHILDREN: dict[str, Callable[[Any], Iterable[object]]] = {
    "torch.Tensor": _tensor_children,
    "torch._C.TensorBase": _tensor_children,
    "torch.amp.grad_scaler.GradScaler": _scaler_children,
}
