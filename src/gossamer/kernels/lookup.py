"""Rows of a sparse table as registered operators, with a short way for eager execution.

Shapes: V = rows of the table, D = columns, N = look-ups, K = active entries. The topology is CSR by rows: row_pointers
[V + 1], column_indices [K].
"""

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.kernels import embedding

_PLAIN = (Tensor, nn.Parameter)
_FULL = (torch.float32, torch.float64)


def look_up(
    indices_N: Tensor, values: Tensor, index: tuple[Tensor, Tensor], *, width: int, padding: int = -1
) -> Tensor:
    """Return rows of a sparse table as dense vectors.

    Args:
        indices_N: which rows, in [0, V), shape [N], int32 or int64.
        values: the active entries in the order of the rows, shape [K], floating.
        index: row_pointers and column_indices.
        width: D.
        padding: a row whose entries get no gradient, or -1.

    Returns:
        Shape [N, D], contiguous, dtype of the values.

    Raises:
        ValueError: an index that is no integer, or lies outside of the table, or values that do not fit the topology.

    Cost: O(active entries of the rows looked up + N D). The gradient of the values is dense, one number for each of
    the K entries, and costs O(K + active entries of the rows looked up).
    """
    check(indices_N, values, index)
    indices_N = indices_N.long()
    if torch._C._are_functorch_transforms_active():  # which take neither registered derivatives nor our function
        return plain(indices_N, values, *index, width, padding)
    if not _is_plain(indices_N, values):
        result: Tensor = torch.ops.gossamer.sparse_embedding(indices_N, values, *index, width, padding)
        return result
    result = _LookUp.apply(indices_N, values, *index, width, padding)  # type: ignore[no-untyped-call]
    return result


def check(indices_N: Tensor, values: Tensor, index: tuple[Tensor, Tensor]) -> None:
    """Raise ValueError unless the operands of `look_up` fit each other; places are checked where they are used."""
    if indices_N.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"indices are {indices_N.dtype}; rows are named by integers: convert with .long()")
    if values.shape != index[1].shape:
        raise ValueError(
            f"{values.numel()} values for a topology of {index[1].numel()} active entries; they must agree"
        )


def plain(indices_N: Tensor, values: Tensor, pointers: Tensor, columns: Tensor, width: int, padding: int) -> Tensor:
    """Compute `look_up` in plain PyTorch: any device and transform, and the oracle of the kernel."""
    _check_places(indices_N, pointers)
    out = values.new_zeros(indices_N.numel() * width)
    slots, places = _entries(indices_N, pointers)
    taken = values[slots]
    if padding >= 0:
        taken = torch.where(indices_N[places] == padding, taken.detach(), taken)
    # Not in place: under torch.func.vmap the values may have a dimension that the zeros have not.
    return out.index_put((places * width + columns[slots],), taken).view(indices_N.numel(), width)


def _entries(indices_N: Tensor, pointers: Tensor) -> tuple[Tensor, Tensor]:
    """Slot of each entry that is looked up, and the place of the look-up it belongs to."""
    starts, counts = pointers.long()[indices_N], pointers.diff().long()[indices_N]
    places = torch.repeat_interleave(counts)
    within = torch.arange(places.numel(), device=places.device) - (counts.cumsum(0) - counts)[places]
    return starts[places] + within, places


def _grad_any(grad: Tensor, indices: Tensor, pointers: Tensor, columns: Tensor, padding: int) -> Tensor:
    slots, places = _entries(indices, pointers)
    taken = grad.flatten()[places * grad.shape[1] + columns[slots]]
    if padding >= 0:
        taken = taken * (indices[places] != padding)
    return grad.new_zeros(columns.numel()).index_add(0, slots, taken)


def _forward_cpu(
    indices: Tensor, values: Tensor, pointers: Tensor, columns: Tensor, width: int, padding: int
) -> Tensor:
    _check_places(indices, pointers)
    out = values.new_empty(indices.numel(), width)
    embedding.look_up(pointers, columns, values.contiguous(), indices.contiguous(), out)
    return out


def _grad_cpu(grad: Tensor, indices: Tensor, pointers: Tensor, columns: Tensor, padding: int) -> Tensor:
    if grad.dtype not in _FULL:
        return _grad_cpu(grad.float(), indices, pointers, columns, padding).to(grad.dtype)
    grad_values = grad.new_empty(columns.numel())
    embedding.add_up(pointers, columns, indices.contiguous(), grad.contiguous(), padding, grad_values)
    return grad_values


def _check_places(indices: Tensor, pointers: Tensor) -> None:
    if not indices.numel():
        return
    low, high = torch.aminmax(indices)
    rows = pointers.numel() - 1
    if int(low) < 0 or int(high) >= rows:
        wrong = int(low) if int(low) < 0 else int(high)
        raise ValueError(f"index {wrong} names no row of a table of {rows}; indices must lie in [0, {rows})")


def _is_plain(*tensors: Tensor) -> bool:
    return (
        all(type(part) in _PLAIN and part.is_cpu for part in tensors)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        and not torch._C._len_torch_dispatch_stack()
    )


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, indices: Tensor, values: Tensor, pointers: Tensor, columns: Tensor, width: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(indices, pointers, columns)
        ctx.padding = padding
        return _forward_cpu(indices, values, pointers, columns, width, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        indices, pointers, columns = ctx.saved_tensors
        direct = not torch.is_grad_enabled() and _is_plain(grad)
        function = _grad_cpu if direct else torch.ops.gossamer.sparse_embedding_grad
        return None, function(grad, indices, pointers, columns, ctx.padding), None, None, None, None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    indices, _, pointers, columns, _, ctx.padding = inputs
    ctx.save_for_backward(indices, pointers, columns)


def _derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    indices, pointers, columns = ctx.saved_tensors
    grad_values = torch.ops.gossamer.sparse_embedding_grad(grad, indices, pointers, columns, ctx.padding)
    return None, grad_values, None, None, None, None


def _save_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, indices, pointers, columns, ctx.padding = inputs
    ctx.save_for_backward(indices, pointers, columns)
    ctx.width = grad.shape[1]


def _grad_derivative(ctx: Any, to_values: Tensor) -> tuple[Tensor | None, ...]:
    indices, pointers, columns = ctx.saved_tensors
    result = torch.ops.gossamer.sparse_embedding(indices, to_values, pointers, columns, ctx.width, ctx.padding)
    if ctx.padding >= 0:
        result = result * (indices != ctx.padding)[:, None]
    return result, None, None, None, None


def _forward_fake(
    indices: Tensor, values: Tensor, pointers: Tensor, columns: Tensor, width: int, padding: int
) -> Tensor:
    return values.new_empty(indices.shape[0], width)


def _grad_fake(grad: Tensor, indices: Tensor, pointers: Tensor, columns: Tensor, padding: int) -> Tensor:
    return grad.new_empty(columns.shape[0])


_TABLE = "Tensor row_pointers, Tensor column_indices"
torch.library.define(
    "gossamer::sparse_embedding", f"(Tensor i, Tensor values, {_TABLE}, SymInt w, int padding) -> Tensor"
)
torch.library.impl("gossamer::sparse_embedding", "CPU", _forward_cpu)
torch.library.impl("gossamer::sparse_embedding", "CUDA", plain)
torch.library.register_fake("gossamer::sparse_embedding", _forward_fake)
torch.library.register_autograd("gossamer::sparse_embedding", _derivative, setup_context=_save)
torch.library.define("gossamer::sparse_embedding_grad", f"(Tensor grad, Tensor i, {_TABLE}, int padding) -> Tensor")
torch.library.impl("gossamer::sparse_embedding_grad", "CPU", _grad_cpu)
torch.library.impl("gossamer::sparse_embedding_grad", "CUDA", _grad_any)
torch.library.register_fake("gossamer::sparse_embedding_grad", _grad_fake)
torch.library.register_autograd("gossamer::sparse_embedding_grad", _grad_derivative, setup_context=_save_grad)
