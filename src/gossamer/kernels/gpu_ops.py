"""The sparse products on the GPU: which tiles the kernels of `gpu` work on, and their launch.

Shapes: F = features in, O = features out, B = batch, K = active weights. Batch is the last axis: [features, batch].
The functions take what the operators of `ops` take: tensors, then as `index` row_pointers, column_indices,
column_pointers, row_indices and permutation, int32 or int64. Triton is imported with the first product; where it is
not installed, `ops` keeps to plain PyTorch.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Whether the functions below can run, known without the seconds that an import of Triton takes.
HAS_TRITON = importlib.util.find_spec("triton") is not None

# 132 multiprocessors of an H100 want a few programs each.
_ENOUGH_PROGRAMS = 512
# Gradients of the values are summed over tiles of the batch; more tiles at once would cost more memory.
_TILES_AT_ONCE = 8


class Tiles(NamedTuple):
    """What one program works on.

    Attributes:
        entries: active weights at once, a power of two.
        samples: samples of the batch, a power of two.
        num_warps: warps that share the work.
    """

    entries: int
    samples: int
    num_warps: int


def tile_sizes(num_rows: int, num_active: int, batch: int, itemsize: int) -> Tiles:
    """Choose the tiles of a product by its shape.

    Samples: the batch, at most 128 (64 in float64), which a warp loads at once; halved down to 32 while there would be
    too few programs. Entries: the length of an average row, from 16 up to what 32 sums a thread allow in four warps, at
    most 128. Warps: one for each 4 KiB of sums, at most four, so that small batches get a program of one warp a row.

    Args:
        num_rows: rows of the weight, or columns for the transposed products.
        num_active: active weights.
        batch: samples.
        itemsize: bytes of a number.

    Example:
        >>> tile_sizes(4096, 4096 * 200, 1024, 4)
        Tiles(entries=32, samples=128, num_warps=4)
        >>> tile_sizes(4096, 4096 * 200, 1, 4)
        Tiles(entries=128, samples=1, num_warps=1)
    """
    widest = 64 if itemsize == 8 else 128
    samples = min(widest, _power_of_two(batch))
    while samples > 32 and num_rows * -(-batch // samples) < _ENOUGH_PROGRAMS:
        samples //= 2
    most = min(128, 32 * widest // samples)
    entries = max(16, min(most, _power_of_two(-(-num_active // max(1, num_rows)))))
    return Tiles(entries, samples, max(1, min(4, entries * samples * max(4, itemsize) // 4096)))


def sparse_linear(x_FB: Tensor, values: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    """Multiply a sparse weight with a batch and add the bias: y = W x + b.

    Args:
        x_FB: shape [F, B], float16, bfloat16, float32 or float64.
        values: shape [K], dtype of x.
        bias: shape [O], dtype of x, or None.
        *index (tensors): the topology, as above.

    Returns:
        Shape [O, B], dtype of x; summed in float32, or float64 for float64.

    Cost: one launch, no temporary.
    """
    return _multiply(index[0], index[1], None, values, bias, x_FB)


def grad_input(grad_OB: Tensor, values: Tensor, *index: Tensor) -> Tensor:
    """Return the gradient of the input, W^T grad, shape [F, B]; arguments and cost as of `sparse_linear`."""
    return _multiply(index[2], index[3], index[4], values, None, grad_OB)


def grad_values(grad_OB: Tensor, x_FB: Tensor, *index: Tensor) -> Tensor:
    """Return the gradient of the values, shape [K]: grad[row] . x[column] for each active weight.

    Args:
        grad_OB: gradient of the result, shape [O, B].
        x_FB: input of the forward pass, shape [F, B], dtype of grad.
        *index (tensors): the topology, as above.

    Cost: a launch for each 8 tiles of the batch; 8 K numbers of temporary memory.
    """
    pointers, indices, num_active = index[0], index[1], index[1].numel()
    num_rows, batch = pointers.numel() - 1, x_FB.shape[1]
    tiles = tile_sizes(num_rows, num_active, batch, x_FB.itemsize)
    total, wide = None, _wide(x_FB.dtype)
    for start, stop, count in _stretches(batch, tiles.samples):
        grad, x = batch_fast(grad_OB[:, start:stop]), batch_fast(x_FB[:, start:stop])
        partial = x.new_empty(count, num_active, dtype=wide)
        sizes = (num_rows, stop - start, num_active, grad.stride(0), x.stride(0))
        operands = (pointers, indices, grad, x, partial, *sizes)
        launch("sample", num_rows * count, operands, _constants(tiles), num_warps=tiles.num_warps)
        total = _add(total, partial)
    return x_FB.new_zeros(num_active) if total is None else total.to(x_FB.dtype)


def backward(grad_OB: Tensor, x_FB: Tensor, values: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of input and values at once, which gathers half of what the two would.

    Args:
        grad_OB: gradient of the result, shape [O, B].
        x_FB: input of the forward pass, shape [F, B], dtype of grad.
        values: shape [K], dtype of grad.
        *index (tensors): the topology, as above.

    Returns:
        Shapes [F, B] and [K].

    Cost: as of `grad_values`.
    """
    num_columns, num_active, batch = index[2].numel() - 1, values.numel(), x_FB.shape[1]
    tiles = tile_sizes(num_columns, num_active, batch, x_FB.itemsize)
    total, wide, values = None, _wide(x_FB.dtype), values.contiguous()
    x_FB, grad_x = x_FB.contiguous(), x_FB.new_empty(x_FB.shape)
    for start, stop, count in _stretches(batch, tiles.samples):
        grad, part = batch_fast(grad_OB[:, start:stop]), slice(start, stop)
        partial = grad.new_empty(count, num_active, dtype=wide)
        sizes = (num_columns, stop - start, num_active, grad.stride(0), batch)
        operands: Sequence[Tensor | int] = (*index[2:], values, grad, x_FB[:, part], grad_x[:, part], partial, *sizes)
        launch("backward", num_columns * count, operands, _constants(tiles), num_warps=tiles.num_warps)
        total = _add(total, partial)
    return grad_x, torch.zeros_like(values) if total is None else total.to(values.dtype)


def _multiply(
    pointers: Tensor, indices: Tensor, permutation: Tensor | None, values: Tensor, bias: Tensor | None, x: Tensor
) -> Tensor:
    num_rows, batch, x = pointers.numel() - 1, x.shape[1], batch_fast(x)
    result = x.new_empty(num_rows, batch)
    tiles = tile_sizes(num_rows, values.numel(), batch, x.itemsize)
    bias = None if bias is None else bias.contiguous()
    operands = (pointers, indices, permutation, values.contiguous(), bias, x, result)
    arguments = (*operands, num_rows, batch, x.stride(0))
    programs = num_rows * -(-batch // tiles.samples)
    launch("multiply", programs, arguments, _constants(tiles), num_warps=tiles.num_warps)
    return result


def _stretches(batch: int, samples: int) -> Iterator[tuple[int, int, int]]:
    """First sample, end and number of tiles of each stretch of the batch that is summed at once."""
    for start in range(0, batch, samples * _TILES_AT_ONCE):
        stop = min(batch, start + samples * _TILES_AT_ONCE)
        yield start, stop, -(-(stop - start) // samples)


def _add(total: Tensor | None, partial: Tensor) -> Tensor:
    # One tile, the usual case of small layers, costs no further launch.
    part = partial[0] if len(partial) == 1 else partial.sum(0)
    return part if total is None else total + part


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _constants(tiles: Tiles) -> dict[str, int | str]:
    return {"ENTRIES": tiles.entries, "SAMPLES": tiles.samples}


def batch_fast(x: Tensor) -> Tensor:
    """Return a matrix whose samples lie side by side: itself where they do, else a copy."""
    return x if x.stride(1) == 1 else x.contiguous()


def launch(
    name: str,
    programs: int,
    arguments: Sequence[Tensor | int | None],
    constants: Mapping[str, int | str],
    *,
    num_warps: int = 4,
) -> None:
    """Run a kernel of `gpu`.

    Args:
        name: which one.
        programs: how many programs of it, >= 0; none is no launch.
        arguments: its arguments in order, the first a tensor on the device to run on.
        constants: those that it is compiled for.
        num_warps: warps of a program.
    """
    if not programs:
        return
    from gossamer.kernels import gpu

    # Triton launches on the current device, which need not be that of the tensors. Fused sums of products are its
    # default of today only.
    with torch.cuda.device_of(arguments[0]):
        getattr(gpu, name)[(programs,)](*arguments, **constants, num_warps=num_warps, enable_fp_fusion=True)
