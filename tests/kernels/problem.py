"""A sparse product small enough for its dense float64 oracle."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer import topology
from gossamer.kernels.operands import Index
from gossamer.topology import Topology

OPS = ["sparse_linear", "sparse_linear_backward", "sparse_linear_grad_input", "sparse_linear_grad_values"]
DTYPES = [torch.float32, torch.float64]
BATCHES = [0, 1, 2, 7, 15, 16, 17, 40, 63, 64, 65, 127, 128, 129, 200, 257]
RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}


def ragged(outputs: int = 23, inputs: int = 17) -> Tensor:
    """About a third active, with an empty row, a full row and an empty column."""
    mask = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(5)) < 0.3
    mask[4], mask[9], mask[:, 6] = False, True, False
    return mask


MASKS = {
    "ragged": ragged(),
    "nothing": torch.zeros(5, 7).bool(),
    "everything": torch.ones(5, 7).bool(),
    "one full row": torch.arange(6).eq(2)[:, None].expand(6, 9),
    "one full column": torch.arange(9).eq(8).expand(6, 9),
    "last entry alone": torch.arange(54).eq(53).view(6, 9),
    "no inputs": torch.zeros(4, 0).bool(),
    "no outputs": torch.zeros(0, 4).bool(),
    "neither": torch.zeros(0, 0).bool(),
    "one input": torch.tensor([[1], [0], [1]]).bool(),
    "one output": torch.tensor([[0, 1, 1]]).bool(),
    "one weight": torch.ones(1, 1).bool(),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Operands of all four operators; `mask` tells which weights exist."""

    mask: Tensor
    values: Tensor
    bias: Tensor | None
    x: Tensor
    grad: Tensor
    index: Index

    def arguments(self, op: str) -> tuple[Tensor | None, ...]:
        """What the operator takes."""
        first: dict[str, tuple[Tensor | None, ...]] = {
            "sparse_linear": (self.x, self.values, self.bias),
            "sparse_linear_backward": (self.grad, self.x, self.values),
            "sparse_linear_grad_input": (self.grad, self.values),
            "sparse_linear_grad_values": (self.grad, self.x),
        }
        return *first[op], *self.index

    def run(self, op: str) -> tuple[Tensor, ...]:
        """Call the registered operator."""
        result = getattr(torch.ops.gossamer, op)(*self.arguments(op))
        return result if isinstance(result, tuple) else (result,)

    def oracle(self, op: str, *, absolute: bool = False) -> tuple[Tensor, ...]:
        """The dense products in float64, or those of absolute values: the scale of what rounding may cost."""

        def wide(tensor: Tensor) -> Tensor:
            return tensor.abs().double() if absolute else tensor.double()

        weight = torch.zeros(self.mask.shape, dtype=torch.float64)
        weight[self.mask] = wide(self.values)
        x, grad = wide(self.x), wide(self.grad)
        forward = weight @ x if self.bias is None else weight @ x + wide(self.bias)[:, None]
        grad_input, grad_values = weight.t() @ grad, (grad @ x.t())[self.mask]
        return {
            "sparse_linear": (forward,),
            "sparse_linear_backward": (grad_input, grad_values),
            "sparse_linear_grad_input": (grad_input,),
            "sparse_linear_grad_values": (grad_values,),
        }[op]

    def check(self, op: str, results: tuple[Tensor, ...]) -> None:
        """Compare with the oracle, entry by entry."""
        for found, expected, scale in zip(results, self.oracle(op), self.oracle(op, absolute=True), strict=True):
            assert (found.dtype, found.shape) == (self.x.dtype, expected.shape)
            assert bool(((found.double() - expected).abs() <= RELATIVE[self.x.dtype] * scale).all())


def make(
    mask: Tensor, batch: int, dtype: torch.dtype, *, bias: bool = True, index_dtype: torch.dtype = torch.int32
) -> Problem:
    """Draw normal operands for a mask."""
    generator = torch.Generator().manual_seed(batch)
    narrow = topology.from_mask(mask)
    places = Topology(narrow.shape, narrow.row_pointers.to(index_dtype), narrow.column_indices.to(index_dtype))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return Problem(
        mask=mask,
        values=normal(places.num_active),
        bias=normal(mask.shape[0]) if bias else None,
        x=normal(mask.shape[1], batch),
        grad=normal(mask.shape[0], batch),
        index=(places.row_pointers, places.column_indices, *topology.transpose(places)),
    )
