"""The two networks of criteria.py: their images, their training, their accuracy."""

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gossamer as gs

BATCH = 128
_FILE = "cifar10-jpeg/cifar10-jpeg.npz"
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One network and its images.

    Attributes:
        label: above its panel and its tables.
        make: (generator) -> the network as it starts.
        train: inputs and targets.
        test: inputs and targets.
    """

    label: str
    make: Callable[[torch.Generator], nn.Module]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def first(self, count: int) -> Batches:
        """Return the first training rows as batches, for calibration."""
        inputs, targets = (part[:count] for part in self.train)
        return list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))


def mlp_task(train_size: int, test_size: int) -> Task:
    """Return 784-300-100-10 on Fashion-MNIST, pixels standardised."""
    found = gs.data.load("fashion-mnist", train_size=train_size, test_size=test_size)
    return Task(
        label="784-300-100-10, Fashion-MNIST",
        make=lambda generator: gs.models.mlp([784, 300, 100, 10], generator=generator),
        train=(found.train_inputs, found.train_targets),
        test=(found.test_inputs, found.test_targets),
    )


def resnet_task(train_size: int, test_size: int) -> Task:
    """Return ResNet-8 on CIFAR-10 (recompressed as JPEG), channels standardised."""
    train, train_targets = decoded_images("train", train_size)
    test, test_targets = decoded_images("test", test_size)
    deviation, mean = torch.std_mean(train, dim=(0, 2, 3), keepdim=True)
    train, test = (((part - mean) / deviation).to(memory_format=torch.channels_last) for part in (train, test))
    return Task(
        label="ResNet-8, CIFAR-10 (JPEG)",
        make=lambda generator: gs.models.resnet(8, num_classes=10, width=16, generator=generator),
        train=(train, train_targets),
        test=(test, test_targets),
    )


TASKS = {"mlp": mlp_task, "resnet": resnet_task}


def pack_path(name: str) -> Path:
    """Return a pack's file below the folder of the data."""
    folder = os.environ.get("GOSSAMER_DATA")
    if not folder:
        raise SystemExit(f"set GOSSAMER_DATA to the folder that holds {name}")
    return Path(folder, name)


def decoded_images(part: str, count: int) -> tuple[Tensor, Tensor]:
    """Decode the first CIFAR-10 images of a part, [count, 3, 32, 32] in [0, 1], and their classes."""
    with np.load(pack_path(_FILE)) as pack:
        header, content = pack["header"].tobytes(), pack[f"{part}_bytes"].tobytes()
        places, targets = pack[f"{part}_offsets"], pack[f"{part}_labels"][:count]
    images = [
        np.asarray(Image.open(io.BytesIO(header + content[places[row] : places[row + 1]])))
        for row in range(len(targets))
    ]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return pixels, torch.from_numpy(targets.astype(np.int64))


def trained(task: Task, path: Path, *, seed: int, passes: int) -> nn.Module:
    """Return the trained network, from its file where there is one."""
    generator = torch.Generator().manual_seed(seed)
    model = task.make(generator)
    if path.is_file():
        return gs.load(path, model)
    train_(model, task, passes=passes, learning_rate=0.1, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    gs.save(model, path)
    return model


def train_(
    model: nn.Module, task: Task, *, passes: int, learning_rate: float, generator: torch.Generator, hold: bool = False
) -> None:
    """Train with SGD, one rise and fall of the learning rate; `hold` keeps zeros at zero."""
    inputs, targets = task.train
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False
    )
    steps = passes * math.ceil(len(inputs) / BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    sparsifier = gs.recipes.hold(model, optimizer) if hold else None
    model.train()
    for _ in range(passes):
        for batch in gs.data.batches(len(inputs), batch_size=BATCH, generator=generator):
            optimizer.zero_grad()
            cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
            if sparsifier:
                sparsifier.step()
            rates.step()
    if sparsifier:
        sparsifier.finalize()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, task: Task) -> float:
    """Return the fraction of test images that are classified correctly."""
    model.eval()
    pairs = zip(*(part.split(500) for part in task.test), strict=True)
    hits = sum(int((model(inputs).argmax(1) == targets).sum()) for inputs, targets in pairs)
    return hits / len(task.test[1])
