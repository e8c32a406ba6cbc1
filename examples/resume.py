"""Stop a sparse training, go on from a checkpoint, and get the same network as without the stop, bit for bit.

Shows what belongs in a checkpoint: model, optimizer and sparsifier, each by its state_dict.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gossamer as gs

NUM_STEPS = 120
DATA = gs.data.load("digits")


class Training(NamedTuple):
    """What a checkpoint is made of."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sparsifier: gs.Sparsifier


def start(seed: int) -> Training:
    generator = torch.Generator().manual_seed(seed)
    model = gs.models.mlp([DATA.num_features, 128, 128, DATA.num_classes], sparsity=0.9, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sparsifier = gs.recipes.set_(model, optimizer, update_every=10, stop_step=NUM_STEPS, generator=generator)
    return Training(model, optimizer, sparsifier)


def train(training: Training, steps: range) -> None:
    for step in steps:
        # Which rows a step sees depends on its number alone, so the order of the data needs no state.
        rows = torch.randint(len(DATA.train_inputs), (64,), generator=torch.Generator().manual_seed(step))
        loss = cross_entropy(training.model(DATA.train_inputs[rows]), DATA.train_targets[rows])
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.sparsifier.step()


def main() -> None:
    whole, first = start(seed=0), start(seed=0)
    train(whole, range(NUM_STEPS))
    train(first, range(NUM_STEPS // 2))
    # Another seed, so another topology: all of it is replaced by what the checkpoint holds.
    second = start(seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save({name: getattr(first, name).state_dict() for name in Training._fields}, path)
        print(f"stopped after {first.sparsifier.num_steps} steps, checkpoint of {path.stat().st_size:,} bytes")
        # Tensors, numbers and strings only: nothing in the file is executed.
        for name, state in torch.load(path, weights_only=True).items():
            getattr(second, name).load_state_dict(state)
    train(second, range(NUM_STEPS // 2, NUM_STEPS))

    other = second.model.state_dict()
    same = all(torch.equal(tensor, other[name]) for name, tensor in whole.model.state_dict().items())
    print(f"resumed to step {second.sparsifier.num_steps}; every weight as without the stop: {same}")


if __name__ == "__main__":
    main()
