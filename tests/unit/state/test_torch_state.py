"""Tensors: shared storage survives, also with numpy; gradients, modules and optimizers come back."""

from __future__ import annotations

from typing import Any

import pytest

from dartvc.state.adapters.tensors import BUILDERS
from dartvc.state.candidates import names_in_source
from dartvc.state.loading import LiveBuffers, Loading, load
from dartvc.state.saving import Refusal, Saving, save
from dartvc.state.settings import _read_torch, _write_torch
from dartvc.state.summaries import summarize
from dartvc.state.working import WorkingNamespace
from tests.unit.state.test_state_roundtrip import run, through

torch = pytest.importorskip("torch", reason="torch is not installed")

CASES = {
    "a view shares its storage": ("a = torch.arange(10); v = a[2:5]; t = a.view(2, 5).t()", "(a.__setitem__(3, 77) is None) and int(v[1]) == 77 and int(t[3, 0]) == 77"),
    "an array and a tensor share memory": ("import numpy as np\nn = np.zeros(3); t = torch.from_numpy(n)", "n.__setitem__(0, 5) or t[0].item() == 5"),
    "what was made in inference mode": (
        "m = torch.nn.Linear(2, 2)\nwith torch.inference_mode(): t = m(torch.ones(3, 2)); v = t[1:]\nw = torch.ones(2)",
        "t.is_inference() and v.is_inference() and not w.is_inference() and t[1].tolist() == v[0].tolist() and v.data_ptr() == t[1:].data_ptr()",
    ),
    "a leaf and its gradient": (
        "w = torch.ones(3, requires_grad=True); (w * 2).sum().backward()",
        "w.is_leaf and w.requires_grad and w.grad.tolist() == [2, 2, 2]",
    ),
    "two modules share a parameter": ("a = torch.nn.Linear(2, 2); b = torch.nn.Linear(2, 2); b.weight = a.weight", "a.weight is b.weight"),
    "an optimizer still steps its model": (
        "m = torch.nn.Linear(2, 1); o = torch.optim.Adam(m.parameters()); m(torch.ones(1, 2)).sum().backward(); o.step()",
        "o.param_groups[0]['params'][0] is m.weight and len(o.state) == 2",
    ),
    "devices, dtypes and limits": ("x = [torch.device('cpu'), torch.float16, torch.finfo(torch.float32)]", "x[1] is torch.float16 and x[2].bits == 32"),
    "a generator": ("g = torch.Generator().manual_seed(5); s = g.get_state()", "torch.equal(g.get_state(), s)"),
}  # fmt: skip


@pytest.mark.parametrize("claim", CASES)
def test_comes_back(claim: str) -> None:
    code, check = CASES[claim]
    assert eval(check, through(run("import torch\n" + code)))


def test_saving_leaves_a_storage_resizable() -> None:
    namespace = run("import torch\na = torch.zeros(100_000)")
    through(namespace)
    namespace["a"].resize_(200_000)
    assert namespace["a"].numel() == 200_000


def test_a_run_refuses_a_tensor_whose_graph_is_still_needed_and_takes_one_whose_graph_is_gone() -> None:
    weight = torch.ones(3, requires_grad=True)
    loss = (weight * weight).sum()
    namespace: dict[str, object] = {"loss": loss}
    working = WorkingNamespace(namespace, summarize)
    working.keeps_strings = True
    assert working.pickled(("loss",)) is None
    loss.backward()
    assert working.pickled(("loss",)) is not None


def test_an_optimizer_keeps_what_its_class_leaves_out_of_its_pickle() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.LBFGS([weight])
    loaded = through({"weight": weight, "optimizer": optimizer})
    assert loaded["optimizer"]._params[0] is loaded["weight"]


def of_another_device(stream: bytes) -> bytes:
    """Returns what a machine with a graphics processor would have stored: the same record, with the name of its device."""
    here, there = b"\x8c\x03cpu", b"\x8c\x06cuda:0"
    assert here in stream
    return stream.replace(here, there)


def load_mapped(namespace: dict[str, Any], device: str) -> tuple[dict[str, Any], list[str]]:
    saved = WorkingNamespace(namespace, summarize).pickled(tuple(name for name in namespace if name[:2] != "__" and name != "torch"))
    assert saved is not None
    loading = Loading({}, LiveBuffers(saved.buffers), device)
    return load(of_another_device(saved.stream), loading), loading.notes


ON_A_DEVICE = "import torch\nbig = torch.arange(40_000.); view = big[3:9].view(2, 3); model = torch.nn.Linear(2, 2); place = torch.device('cpu')\n"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_of_a_device_go_where_they_are_told_and_stay_views_of_one_storage(device: str) -> None:
    loaded, notes = load_mapped(run(ON_A_DEVICE), device)
    assert [loaded[name].device.type for name in ("big", "view")] == [device] * 2 and loaded["place"].type == device
    assert loaded["model"].weight.device.type == device and not notes
    assert loaded["view"].untyped_storage()._cdata == loaded["big"].untyped_storage()._cdata
    assert (loaded["view"].storage_offset(), loaded["view"].shape) == (3, (2, 3))
    if device == "cpu":
        loaded["big"][3] = 77
        assert loaded["view"].tolist() == [[77, 4, 5], [6, 7, 8]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_tensors_of_a_device_that_is_not_here_are_on_the_cpu_and_that_is_said() -> None:
    loaded, notes = load_mapped(run(ON_A_DEVICE), "")
    assert loaded["big"].device.type == "cpu" and loaded["place"] == torch.device("cuda:0")
    assert notes == ["tensors of cuda:0, which is not here, are on the CPU"]


def test_a_generator_of_another_kind_of_device_begins_at_its_seed() -> None:
    loading = Loading({}, LiveBuffers(()), "cpu")
    state = torch.tensor([*(1234).to_bytes(8, "little"), *bytes(8)], dtype=torch.uint8)  # a seed and an offset, as CUDA has them
    generator = BUILDERS["torch_generator"](loading, "cuda:0", state)
    assert generator.initial_seed() == 1234 and "begins again at its seed" in loading.notes[0]


HOOKS = {
    "register_hook": ("w.register_hook(lambda g: g * 2)", "w.grad.tolist() == [2, 2, 2]"),
    "of a parameter": ("w = torch.nn.Parameter(torch.ones(3)); w.register_hook(lambda g: g * 2)", "w.grad.tolist() == [2, 2, 2]"),
    "in their order": ("w.register_hook(lambda g: g * 2); w.register_hook(lambda g: g + 1)", "w.grad.tolist() == [3, 3, 3]"),
    "without the removed one": ("h = w.register_hook(lambda g: g * 2); w.register_hook(lambda g: g + 1); h.remove()", "w.grad.tolist() == [2, 2, 2]"),
    "after the gradient": (
        "seen = []; w.register_post_accumulate_grad_hook(lambda p: seen.append((p is w, p.grad.tolist())))",
        "seen == [(True, [1, 1, 1])]",
    ),
    "a closure's own": (
        "seen = []\ndef watch(kept):\n  w.register_hook(lambda g: kept.append(g.sum().item()))\nwatch(seen)",
        "seen == [3.0]",
    ),
    "of a frozen one": ("w.register_hook(lambda g: g * 2); w.requires_grad_(False)", "w.grad.tolist() == [2, 2, 2]"),
    "shared by two": ("w.register_hook(lambda g: g * 2); v = w", "v is w and w.grad.tolist() == [2, 2, 2]"),
}


@pytest.mark.parametrize("claim", HOOKS)
def test_hooks_of_a_leaf_come_back(claim: str) -> None:
    code, check = HOOKS[claim]
    names = through(run("import torch\nw = torch.ones(3, requires_grad=True)\n" + code))
    names["w"].requires_grad_(True).sum().backward()
    assert eval(check, names)


def test_the_handle_of_a_hook_still_removes_it() -> None:
    code = "w = torch.ones(3, requires_grad=True); h = w.register_hook(lambda g: g * 2); w.register_hook(lambda g: g + 1)"
    names = through(run(f"import torch\n{code}\na = w.register_post_accumulate_grad_hook(lambda p: p.grad.zero_())"))
    for handle in ("h", "a"):
        names[handle].remove()
    names["w"].sum().backward()
    assert names["w"].grad.tolist() == [2, 2, 2] and not names["w"]._post_accumulate_grad_hooks


def test_a_hook_is_a_change_of_its_own_and_what_it_shares_is_stored_with_it() -> None:
    names = run("import torch\nw = torch.ones(3, requires_grad=True); seen = []; other = 1")
    working = WorkingNamespace(names, summarize)

    def changed(code: str) -> set[str]:
        exec(code, names)
        return {each.name for each in working.stage(names_in_source(code)).changed}

    changed("")
    assert changed("handle = w.register_hook(lambda g, kept=seen: kept.append(1))") == {"w", "seen", "handle"}
    assert not changed("w.shape")
    assert "w" in changed("handle.remove()")


def test_numbers_of_hooks_go_on_where_they_were() -> None:
    handles = torch.utils.hooks.RemovableHandle
    torch.ones(1, requires_grad=True).register_hook(int)
    stored, before = _read_torch(), handles.next_id
    handles.next_id = 0
    try:
        _write_torch(stored)
        assert handles.next_id == before
    finally:
        handles.next_id = before


@pytest.mark.parametrize("way", ["accumulator", "several"])
def test_a_hook_that_cannot_be_stored_is_named(way: str) -> None:
    names = run("import torch\nw = torch.ones(3, requires_grad=True)\nfrom torch.autograd.graph import register_multi_grad_hook, get_gradient_edge")
    if way == "several":
        exec("register_multi_grad_hook([w], lambda grads: None)", names)
    else:
        names["__node"] = names["get_gradient_edge"](names["w"]).node
        names["__node"].register_hook(lambda *found: None)
    with pytest.raises(Refusal) as caught:
        save({"w": names["w"]}, Saving(names, "__main__"))
    assert "gradient" in caught.value.reason or "AccumulateGrad" in caught.value.reason


PARAMETRIZED = {
    **{name: f"m = nn.Sequential(parametrizations.{name}(nn.Linear(4, 4)), nn.Linear(4, 1))" for name in ("weight_norm", "spectral_norm", "orthogonal")},
    "one of the program's": (
        "class Symmetric(nn.Module):\n  def forward(self, x): return x.triu() + x.triu(1).T\n  def right_inverse(self, x): return x.triu()\n"
        "m = nn.Sequential(parametrize.register_parametrization(nn.Linear(4, 4), 'weight', Symmetric()), nn.Linear(4, 1))"
    ),
    "several, on a class of the program's": (
        "class Twice(nn.Module):\n  def forward(self, x): return 2 * x\n"
        "class Layer(nn.Module):\n  def __init__(self):\n    super().__init__()\n    self.w = nn.Parameter(torch.ones(4, 4)); self.register_buffer('b', torch.ones(4))\n"
        "  def forward(self, x): return x @ self.w + self.b\n"
        "m = nn.Sequential(Layer(), nn.Linear(4, 1))\n"
        "for name in ('w', 'w', 'b'): parametrize.register_parametrization(m[0], name, Twice())"
    ),
    "one that was taken away": (
        "m = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 1)); parametrizations.spectral_norm(m[0], 'bias')\n"
        "parametrize.remove_parametrizations(m[0], 'bias')"
    ),
}


@pytest.mark.parametrize("claim", PARAMETRIZED)
def test_a_parametrized_module_comes_back_with_its_copies(claim: str) -> None:
    before = "import copy, torch\nfrom torch import nn\nfrom torch.nn.utils import parametrizations, parametrize\ntorch.manual_seed(0)\n"
    after = "\ncopied = copy.deepcopy(m); weights = m.state_dict(keep_vars=True); o = torch.optim.SGD(m.parameters(), 0.1); x = torch.rand(3, 4)"
    first = run(before + PARAMETRIZED[claim] + after)
    again = through(first)
    step = "for _ in range(3):\n  o.zero_grad(); m(x).pow(2).sum().backward(); o.step()\nfound = m(x).tolist(), copied(x).tolist()"
    for names in (first, again):
        exec(step, names)
        exec("other = copy.deepcopy(m)(x).tolist()", names)
    assert first["found"] == again["found"] and first["other"] == again["other"]
    assert type(again["m"][0]) is type(again["copied"][0]) and type(again["m"][0]).__name__ == type(first["m"][0]).__name__
    assert [*vars(first["m"][0])] == [*vars(again["m"][0])] and again["m"].state_dict().keys() == first["m"].state_dict().keys()
    assert all(each is again["weights"][name] for name, each in again["m"].state_dict(keep_vars=True).items())
    for name in [*again["m"][0].parametrizations]:
        again["parametrize"].remove_parametrizations(again["m"][0], name)
    assert "Parametrized" not in type(again["m"][0]).__name__
