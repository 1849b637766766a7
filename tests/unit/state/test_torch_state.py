"""Tensors: shared storage survives, also with numpy; gradients, modules and optimizers come back."""

from __future__ import annotations

import pytest

from dartvc.state.summaries import summarize
from dartvc.state.working import WorkingNamespace
from tests.unit.state.test_state_roundtrip import run, through

torch = pytest.importorskip("torch", reason="torch is not installed")

CASES = {
    "a view shares its storage": ("a = torch.arange(10); v = a[2:5]; t = a.view(2, 5).t()", "(a.__setitem__(3, 77) is None) and int(v[1]) == 77 and int(t[3, 0]) == 77"),
    "an array and a tensor share memory": ("import numpy as np\nn = np.zeros(3); t = torch.from_numpy(n)", "n.__setitem__(0, 5) or t[0].item() == 5"),
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
