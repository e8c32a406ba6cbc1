"""Time a linear layer at inference, batch 1 to 256: truly sparse against dense, torch CSR and ONNX Runtime.

    python benchmarks/inference.py                        2048 x 2048, the batches and sparsities of the README
    python benchmarks/inference.py --size 1024 --batches 1 --sparsities 0.95
    python benchmarks/inference.py --batches 1 --active 0.05    inputs that are mostly zero, as behind k-winners

Each contender takes a batch-major input, as a program would hand it in. ONNX Runtime runs the dense weight with its
zeros: it has no sparse product. "lean" is the same layer as `gossamer.accelerate` may hold it: float32, places of 16
bits, nothing rounded. Ratios are those of the faster of the two. A round times some calls of each contender in a row;
medians over the rounds.

`pip install onnxruntime onnx` brings that rival; the others come with torch.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from rivals import RIVALS
from timing import measure
from torch import Tensor, nn

from gossamer import formats
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

OURS = ("gossamer", "lean")


def onnx_call(layer: nn.Linear, inputs: Tensor) -> Callable[[], object]:
    """Return a call of ONNX Runtime on one matrix product, as many threads as torch."""
    import onnx
    import onnxruntime

    weight = onnx.numpy_helper.from_array(layer.weight.detach().t().contiguous().numpy(), "weight")
    bias = onnx.numpy_helper.from_array(layer.bias.detach().numpy(), "bias")
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["inputs", "weight", "bias"], ["outputs"])],
        "linear",
        [onnx.helper.make_tensor_value_info("inputs", kind, list(inputs.shape))],
        [onnx.helper.make_tensor_value_info("outputs", kind, [len(inputs), layer.out_features])],
        [weight, bias],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait for work in a loop would take the processor from the contenders that come next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    fed = {"inputs": inputs.numpy()}
    return lambda: session.run(None, fed)


def contenders(layer: SparseLinear, *, batch: int, active: float) -> dict[str, Callable[[], object]]:
    dense, inputs = layer.to_dense(), torch.randn(batch, layer.in_features)
    inputs *= torch.rand(inputs.shape) < active
    csr = RIVALS["torch CSR"](layer)
    lean = formats.LINEAR["lean_csr"](layer) or layer
    calls: dict[str, Callable[[], object]] = {
        "dense": lambda: dense(inputs),
        "torch CSR": lambda: csr(inputs),
        "gossamer": lambda: layer(inputs),
        "lean": lambda: lean(inputs),
    }
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        calls["ONNX Runtime"] = onnx_call(dense, inputs)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="features in and out")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 256])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.8, 0.9, 0.95, 0.99])
    parser.add_argument("--active", type=float, default=1.0, help="share of the inputs that are not zero")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--in-a-row", type=int, default=10, help="calls of one contender in a round")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(width=120)
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    names = ("dense", "torch CSR", "ONNX Runtime", *OURS)
    table = Table(title=f"inference, {options.size} x {options.size}, ms", title_justify="left")
    for header in ("batch", "sparsity", *names, "over dense", "over the fastest other"):
        table.add_column(header, justify="right")
    for batch in options.batches:
        for sparsity in options.sparsities:
            layer = SparseLinear(
                options.size, options.size, sparsity=sparsity, generator=torch.Generator().manual_seed(0)
            )
            with torch.inference_mode():
                results = measure(
                    contenders(layer, batch=batch, active=options.active),
                    rounds=options.rounds,
                    in_a_row=options.in_a_row,
                )
            times = {name: taken for name, taken in results.items() if isinstance(taken, float)}
            ours = min(times[name] for name in OURS)
            best = min(taken for name, taken in times.items() if name not in OURS)
            table.add_row(
                f"{batch}",
                f"{sparsity:g}",
                *(f"{times[name]:.3f}" if name in times else "-" for name in names),
                f"{times['dense'] / ours:.1f}x",
                f"{best / ours:.2f}x",
            )
    console.print(table)


if __name__ == "__main__":
    main()
