"""Start dense, remove nine weights in ten while training (GMP), and see what that saves and what it does not.

Shows the way from masks to truly sparse layers: masked while training, `finalize`, `to_sparse`, then size and time.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gossamer as gs


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    data = gs.data.load("digits")
    model = gs.models.mlp([data.num_features, 512, 512, data.num_classes], generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = gs.recipes.gmp(model, optimizer, sparsity=0.9, start_step=20, stop_step=160, update_every=20)
    for _ in range(10):
        for rows in gs.data.batches(len(data.train_inputs), batch_size=64, generator=generator):
            loss = cross_entropy(model(data.train_inputs[rows]), data.train_targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if sparsifier.step():
                print(f"step {sparsifier.num_steps:3d}: {sparsifier.num_active():,} active weights")
    # Until here the zeros were stored and multiplied like any number: a mask alone saves nothing.
    sparsifier.finalize()
    sparse = gs.to_sparse(model)

    inputs = data.test_inputs[:128]
    for name, module in (("dense with zeros", model.eval()), ("truly sparse", sparse.eval())):
        with torch.no_grad():
            accuracy = (module(data.test_inputs).argmax(1) == data.test_targets).float().mean()
        print(
            f"{name:>16}: accuracy {100 * accuracy:.1f} %, file {size(module):,} bytes, "
            f"{milliseconds(module, inputs):.2f} ms for a batch of {len(inputs)}"
        )
    print("Times are of this machine, now. In small layers, or with more weights kept, dense can be faster.")


def size(module: nn.Module) -> int:
    """Bytes of the model's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        gs.save(module, path)
        return path.stat().st_size


def milliseconds(module: nn.Module, inputs: torch.Tensor) -> float:
    """Median time of a forward pass, after the first ones have filled caches."""
    times = []
    with torch.inference_mode():
        for _ in range(30):
            start = time.perf_counter()
            module(inputs)
            times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[10:])


if __name__ == "__main__":
    main()
