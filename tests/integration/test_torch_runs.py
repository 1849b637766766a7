"""Training loops of PyTorch: killed in the middle of an epoch, resumed, equal to the last digit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dartvc.program.frames import is_supported
from tests.integration.test_runs import COMMIT, command

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


def train_epoch(model, loader, optimizer, epoch):
    total = 0.0
    for step, (x, y) in enumerate(loader):
        if epoch == 1 and step == 4:
            commit_and_die(epoch)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        if epoch == 2 and step == 5:
            commit_and_die(epoch)
    return total


def main():
    x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
    loader = LOADER
    for epoch in range(4):
        print(epoch, train_epoch(model, loader, optimizer, epoch).hex(), flush=True)
        scheduler.step()
    print(float(sum(p.double().sum() for p in model.parameters())).hex(), torch.rand(()).item())


if __name__ == "__main__":
    main()
"""


def outcomes(folder: Path, loader: str) -> tuple[str, list[str]]:
    """Runs the training plainly, and killed twice and resumed twice; returns what was printed."""
    (folder / "train.py").write_text(COMMIT.replace("die()", "die(place)").replace('("TEST_DIE")', '("TEST_DIE") == str(place)') + TRAINING.replace("LOADER", loader))
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TEST_PLAIN": "1"}
    plain = subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    printed = []
    for words, place, code in ((("run", "train.py"), "1", -signal.SIGKILL), (("resume",), "2", -signal.SIGKILL), (("resume",), "", 0)):
        done = command(*words, cwd=folder, die=place)
        assert done.returncode == code, done.stderr
        printed.append(done.stdout.replace("lost\n", ""))
    return plain.stdout, printed


@pytest.mark.parametrize(
    "loader",
    [
        "DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)",
        "DataLoader(Noisy(x, y), batch_size=8, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(5))",
        "DataLoader(Stream(x, y), batch_size=8)",
        "DataLoader(Noisy(x, y), batch_size=8, shuffle=True, num_workers=2)",
        "DataLoader(Noisy(x, y), batch_size=8, shuffle=True, num_workers=2, persistent_workers=True)",
        "DataLoader(Stream(x, y), batch_size=8, num_workers=2)",
        "DataLoader(Noisy(x, y), batch_size=8, sampler=torch.utils.data.WeightedRandomSampler(torch.rand(96), 96))",
    ],
)
def test_an_epoch_goes_on_with_the_batch_that_came_next(tmp_path: Path, loader: str) -> None:
    plain, printed = outcomes(tmp_path, loader)
    assert all(printed) and "".join(printed) == plain
