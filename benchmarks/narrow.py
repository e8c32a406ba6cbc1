"""Time sparse weights of bfloat16 and int8 against float32 CSR, dense, and torch's own narrow layers, interleaved.

    python benchmarks/narrow.py                                  2048 and 4096 wide, one thread
    python benchmarks/narrow.py --widths 2048 --batches 1 256

Truly sparse layers get inputs as such a layer leaves them, with the batch innermost; dense ones as torch has them.
Each cell: milliseconds, and in brackets how many times as long as float32 CSR takes.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from timing import measure
from torch import Tensor, nn

from gossamer import formats
from gossamer.formats import held_bytes
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

COLUMNS = ("csr", *formats.ROUNDED, "dense", "torch bfloat16", "torch int8")


def layers_of(width: int, sparsity: float) -> dict[str, nn.Module]:
    """The same weight in everything that can hold it."""
    layer = SparseLinear(width, width, sparsity=sparsity, generator=torch.Generator().manual_seed(0))
    held = {name: hold(layer) for name, hold in formats.ROUNDED.items()}
    layers: dict[str, nn.Module] = {"csr": layer, **{name: each for name, each in held.items() if each is not None}}
    layers["dense"] = layer.to_dense()
    layers["torch bfloat16"] = layer.to_dense().bfloat16()
    if (quantized := dynamic_int8(layer.to_dense())) is not None:
        layers["torch int8"] = quantized
    return {name: each.eval() for name, each in layers.items()}


def dynamic_int8(linear: nn.Linear) -> nn.Module | None:
    """Return torch's layer of int8 weights, whose inputs are quantized on their way; None where it is deprecated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model: nn.Module = torch.ao.quantization.quantize_dynamic(nn.Sequential(linear), {nn.Linear})
            model(torch.zeros(1, linear.in_features))
            return model
    except (Warning, AttributeError, RuntimeError):
        return None


def steps_of(layers: Mapping[str, nn.Module], inputs: Tensor) -> dict[str, Callable[[], object]]:
    """A call of each layer."""
    columns = inputs.t().contiguous().t()
    given = {"dense": inputs, "torch int8": inputs, "torch bfloat16": inputs.bfloat16()}
    return {name: partial(layer, given.get(name, columns)) for name, layer in layers.items()}


def cells(times: Mapping[str, float | str]) -> list[str]:
    """Milliseconds and how many times as long as CSR, of each column."""
    base, found = times["csr"], []
    for name in COLUMNS:
        time = times.get(name, "-")
        known = isinstance(time, float) and isinstance(base, float)
        found.append(f"{time:.3f} ({time / base:.2f})" if known else str(time))  # type: ignore[operator]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 256])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine, console = describe_machine(), Console(width=150)
    console.print(f"ms; {machine['machine']}; {machine['threads']} threads, torch {machine['torch']}")
    for width in options.widths:
        table = Table(f"{width} x {width}", "batch", *COLUMNS, box=None)
        for sparsity in options.sparsities:
            layers = layers_of(width, sparsity)
            table.add_row(
                f"{sparsity:g}", "bytes", *(f"{held_bytes(layers[n]):,}" if n in layers else "-" for n in COLUMNS)
            )
            for batch in options.batches:
                steps = steps_of(layers, torch.randn(batch, width, generator=torch.Generator().manual_seed(batch)))
                with torch.no_grad():
                    times = measure(steps, rounds=options.rounds, in_a_row=1 if batch > 32 else 3)
                table.add_row("", str(batch), *cells(times))
        console.print(table)


if __name__ == "__main__":
    main()
