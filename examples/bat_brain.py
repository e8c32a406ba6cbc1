"""Make a network with as many neurons as a brain, train it with SET for a few steps, and count what it takes.

Shows that time and memory follow the weights that exist: a bat has 50 million neurons, a mouse 71, a rat 200 million.

    python examples/bat_brain.py --neurons 50e6
"""

import argparse
import resource
import sys
import time

import torch
from torch.nn.functional import cross_entropy

import gossamer as gs

NUM_FEATURES, NUM_CLASSES = 65_536, 2


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    settings = {"neurons": 2e5, "hidden_layers": 10, "epsilon": 1.0, "batch": 1, "steps": 3}
    for name, default in settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = parser.parse_args(arguments)
    generator = torch.Generator().manual_seed(0)
    width = int(given.neurons - NUM_FEATURES - NUM_CLASSES) // given.hidden_layers
    sizes = [NUM_FEATURES, *[width] * given.hidden_layers, NUM_CLASSES]
    shapes = {str(i): (sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)}
    kept = gs.budgets.er_epsilon(shapes, epsilon=given.epsilon)

    start = time.perf_counter()
    # The budget that gave these counts gives them again, whatever sparsity it is told.
    model = gs.models.mlp(sizes, sparsity=0.5, budget=lambda *_, **__: kept, alpha=0.6, generator=generator)
    print(f"{sum(sizes):,} neurons, {sum(kept.values()):,} weights, made in {time.perf_counter() - start:.2f} s")

    # Every weight moves the same two outputs, so the more there are, the less each may move.
    optimizer = torch.optim.SGD(model.parameters(), lr=1 / sum(kept.values()), momentum=0.9)
    last = given.steps
    sparsifier = gs.recipes.set_(model, optimizer, update_every=last, stop_step=last + 1, generator=generator)
    pattern = torch.randn(NUM_FEATURES, generator=generator)
    for step in range(1, last + 1):
        targets = torch.randint(NUM_CLASSES, (given.batch,), generator=generator)
        inputs = torch.randn(given.batch, NUM_FEATURES, generator=generator) + targets[:, None] * pattern
        start = time.perf_counter()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}, {time.perf_counter() - start:.2f} s")
        # Before the exchange, which then has the memory of the gradients.
        optimizer.zero_grad()
        start = time.perf_counter()
        if changes := sparsifier.step():
            num_grown = sum(change.num_grown for change in changes)
            print(f"{num_grown:,} weights exchanged in {time.perf_counter() - start:.2f} s")

    sparse = [layer for layer in model if isinstance(layer, gs.nn.SparseLinear)]
    num_active = sum(layer.num_active for layer in sparse)
    # Values, their gradient and momentum; the column of each, and in the transpose its row and its slot.
    parts = [(*[layer.values] * 3, layer.column_indices, layer.row_indices, layer.permutation) for layer in sparse]
    print(f"{sum(part.nbytes for layer in parts for part in layer) / num_active:.1f} bytes per weight in training")
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main(sys.argv[1:])
