"""Training loops of PyTorch: killed in the middle of an epoch, resumed, equal to the last digit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command, project

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not is_supported(), reason="frames of this interpreter cannot be read")

TRAINING = """
import random
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

torch.manual_seed(3)
random.seed(4)
torch.set_num_threads(1)


class Noisy(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.rand(()) + 0.01 * random.random(), self.y[index]


class Stream(IterableDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        for x, y in zip(self.x, self.y):
            yield x + 0.1 * torch.rand(()), y


def train_epoch(model, loader, optimizer, epoch, number):
    total = 0.0
    for step, (x, y) in enumerate(loader):
        if epoch == 1 and step == 4:
            commit_and_die(f"{number}, early")
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        if epoch == 2 and step == 5:
            commit_and_die(f"{number}, late")
    return total


def train(make_loader, number):
    x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
    loader = make_loader(x, y)
    for epoch in range(4):
        print(number, epoch, train_epoch(model, loader, optimizer, epoch, number).hex(), flush=True)
        scheduler.step()
    print(float(sum(p.detach().double().sum() for p in model.parameters())).hex(), torch.rand(()).item(), flush=True)


if __name__ == "__main__":
    for number, make_loader in enumerate(LOADERS):
        train(make_loader, number)
"""


ALONE = (
    "DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)",
    "DataLoader(Noisy(x, y), batch_size=8, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(5))",
    "DataLoader(Stream(x, y), batch_size=8)",
    "DataLoader(Noisy(x, y), batch_size=8, sampler=torch.utils.data.WeightedRandomSampler(torch.rand(96), 96))",
)
WITH_WORKERS = (
    "DataLoader(Noisy(x, y), batch_size=8, shuffle=True, num_workers=2)",
    "DataLoader(Noisy(x, y), batch_size=8, shuffle=True, num_workers=2, persistent_workers=True)",
    "DataLoader(Stream(x, y), batch_size=8, num_workers=2)",
)


@pytest.mark.parametrize("loaders", [ALONE, WITH_WORKERS], ids=["alone", "with workers"])
def test_an_epoch_goes_on_with_the_batch_that_came_next(tmp_path: Path, loaders: tuple[str, ...]) -> None:
    """One program trains with each loader in turn, is killed in two epochs of each and resumed."""
    made = ", ".join(f"lambda x, y: {loader}" for loader in loaders)
    dying = COMMIT.replace("die()", "die(place)").replace('("TEST_DIE")', '("TEST_DIE") == place')
    (tmp_path / "train.py").write_text(dying + TRAINING.replace("LOADERS", f"[{made}]"))
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TEST_PLAIN": "1"}
    plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    words: tuple[str, ...] = ("run", "train.py")
    printed = []
    for place in (f"{number}, {when}" for number in range(len(loaders)) for when in ("early", "late")):
        killed = command(*words, cwd=tmp_path, die=place)
        assert (killed.returncode, killed.stdout.endswith("lost\n")) == (-signal.SIGKILL, True), killed.stderr
        printed.append(killed.stdout.removesuffix("lost\n"))
        words = ("resume",)
    last = command(*words, cwd=tmp_path)
    assert (last.returncode, "".join([*printed, last.stdout])) == (0, plain.stdout), last.stderr
    assert all([*printed, last.stdout])


SCALED = """
import torch
p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.full((2,), 3.0))
optimizers = [torch.optim.SGD([p], lr=0.1), torch.optim.Adam([q], lr=0.1)]
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
for step in range(6):
    for each in optimizers:
        each.zero_grad()
    loss = (p ** 2).sum() + (q ** 3).sum() * (float("inf") if step == 4 else 1.0)
    scaler.scale(loss).backward()
    del loss
    if step == 3:
        PLACE
    scaler.unscale_(optimizers[0])
    scaler.step(optimizers[0])
    if step == 4:
        OTHER
    scaler.step(optimizers[1])
    scaler.update()
    print(step, p.tolist(), q.tolist(), scaler.get_scale(), scaler.state_dict())
"""


@pytest.mark.parametrize(("place", "other"), [("commit_and_die()", "pass"), ("pass", "commit_and_die()")])
def test_a_gradient_scaler_goes_on_between_the_gradients_and_the_step(tmp_path: Path, place: str, other: str) -> None:
    script = SCALED.replace("PLACE", place).replace("OTHER", other)
    whole = command("run", "train.py", cwd=project(tmp_path / "whole", script))
    folder = project(tmp_path / "run", script)
    killed = command("run", "train.py", cwd=folder, die=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = command("resume", cwd=folder)
    assert (resumed.returncode, killed.stdout.replace("lost\n", "") + resumed.stdout) == (0, whole.stdout), resumed.stderr
    assert len(resumed.stdout.splitlines()) < 4
