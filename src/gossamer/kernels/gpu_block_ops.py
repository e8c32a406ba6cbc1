"""Products with a weight made of dense blocks, on the GPU's matrix units: the launch of the block kernels of `gpu`.

Shapes: F = features in, O = features out, B = batch, K = active blocks of R x C. Batch is the last axis.
`index` has the five tensors of `ops`, int32 or int64, for the topology of the blocks: `topology.from_mask` of a mask
with one entry for each block, row_pointers [O / R + 1] and column_indices [K], and its transpose. As in torch's dense
products, float32 is multiplied exactly, or in TF32 where `torch.set_float32_matmul_precision` allows it; sums are
float32, or float64 for float64.
"""

import torch
from torch import Tensor

from gossamer.kernels.gpu_ops import batch_fast, launch, tile_sizes

_SIZES = (16, 32, 64)


def block_linear(x_FB: Tensor, blocks_KRC: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    """Multiply a weight of blocks with a batch and add the bias: y = W x + b.

    Args:
        x_FB: shape [F, B], float16, bfloat16, float32 or float64.
        blocks_KRC: the active blocks in the order of the rows of blocks, shape [K, R, C], dtype of x; R and C are 16,
            32 or 64.
        bias: shape [O], dtype of x, or None.
        *index (tensors): the topology of the blocks, as above.

    Returns:
        Shape [O, B], dtype of x.

    Raises:
        ValueError: a block size that the kernels do not know, or operands that do not fit each other.

    Cost: one launch, no temporary. A block is read once for each tile of the batch.
    """
    return _multiply(blocks_KRC, bias, x_FB, index, transposed=False)


def block_grad_input(grad_OB: Tensor, blocks_KRC: Tensor, *index: Tensor) -> Tensor:
    """Return the gradient of the input, W^T grad, shape [F, B]; arguments, errors and cost as of `block_linear`."""
    return _multiply(blocks_KRC, None, grad_OB, index, transposed=True)


def block_grad_values(grad_OB: Tensor, x_FB: Tensor, *index: Tensor) -> Tensor:
    """Return the gradient of the blocks: grad[rows of k] x[columns of k]^T for each of them.

    Args:
        grad_OB: gradient of the result, shape [O, B].
        x_FB: input of the forward pass, shape [F, B], dtype of grad.
        *index (tensors): the topology of the blocks, as above; the sizes of a block follow from it.

    Returns:
        Shape [K, R, C], dtype of x.

    Raises:
        ValueError: as of `block_linear`.

    Cost: two launches and K numbers of temporary memory.
    """
    if grad_OB.shape[1] != x_FB.shape[1] or grad_OB.dtype != x_FB.dtype:
        raise ValueError(f"gradient is {_words(grad_OB)} but the input {_words(x_FB)}; batch and dtype must agree")
    rows, columns = (_block_size(part, pointers) for part, pointers in ((grad_OB, index[0]), (x_FB, index[2])))
    _check_sizes(rows, columns)
    num_blocks = index[1].numel()
    result = x_FB.new_empty(num_blocks, rows, columns)
    row_indices = torch.repeat_interleave(index[0].diff().long(), output_size=num_blocks)
    grad, x = batch_fast(grad_OB), batch_fast(x_FB)
    operands = (row_indices, index[1], grad, x, result, x.shape[1], grad.stride(0), x.stride(0))
    constants: dict[str, int | str] = {
        "ROWS": rows,
        "COLUMNS": columns,
        "SAMPLES": _depth(x),
        "PRECISION": _precision(),
    }
    launch("sample_blocks", num_blocks, operands, constants)
    return result


def block_backward(grad_OB: Tensor, x_FB: Tensor, blocks_KRC: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of input and blocks, shapes [F, B] and [K, R, C]; arguments as of the two functions above.

    A fused kernel would keep a tile of both sums in registers; what it saved is one read of grad from the L2 cache.
    """
    return block_grad_input(grad_OB, blocks_KRC, *index), block_grad_values(grad_OB, x_FB, *index)


def _multiply(blocks: Tensor, bias: Tensor | None, x: Tensor, index: tuple[Tensor, ...], *, transposed: bool) -> Tensor:
    permutation: Tensor | None
    _check(blocks, index[1].numel())
    if transposed:
        (pointers, indices, permutation), others = index[2:], index[0]
        columns, rows = blocks.shape[1:]
        steps = (1, rows)
    else:
        (pointers, indices), permutation, others = index[:2], None, index[2]
        rows, columns = blocks.shape[1:]
        steps = (columns, 1)
    num_rows, batch = pointers.numel() - 1, x.shape[1]
    _check_operands(blocks, bias, x, num_rows * rows, (others.numel() - 1) * columns)
    x, bias = batch_fast(x), None if bias is None else bias.contiguous()
    result = x.new_empty(num_rows * rows, batch)
    samples = max(16, tile_sizes(num_rows, 0, batch, x.itemsize).samples)
    operands = (pointers, indices, permutation, blocks.contiguous(), bias, x, result)
    constants: dict[str, int | str] = {"ROWS": rows, "COLUMNS": columns, "SAMPLES": samples, "PRECISION": _precision()}
    programs = num_rows * -(-batch // samples)
    launch("multiply_blocks", programs, (*operands, num_rows, batch, x.stride(0), *steps), constants)
    return result


def _check(blocks: Tensor, num_blocks: int) -> None:
    if blocks.dim() != 3 or blocks.shape[0] != num_blocks:
        raise ValueError(f"blocks have shape {tuple(blocks.shape)}, the topology takes [{num_blocks}, rows, columns]")
    _check_sizes(*blocks.shape[1:])


def _check_operands(blocks: Tensor, bias: Tensor | None, x: Tensor, outputs: int, features: int) -> None:
    if x.shape[0] != features or x.dtype != blocks.dtype:
        raise ValueError(f"input is {_words(x)}, the weight takes {blocks.dtype} of shape [{features}, batch]")
    if bias is not None and (bias.shape != (outputs,) or bias.dtype != blocks.dtype):
        raise ValueError(f"bias is {_words(bias)}, the weight takes {blocks.dtype} of shape ({outputs},)")


def _check_sizes(rows: int, columns: int) -> None:
    if rows not in _SIZES or columns not in _SIZES:
        raise ValueError(f"blocks are {rows} x {columns}; the GPU's kernels take {_SIZES} rows and columns")


def _block_size(matrix: Tensor, pointers: Tensor) -> int:
    count = max(1, pointers.numel() - 1)
    if matrix.shape[0] % count:
        raise ValueError(f"{matrix.shape[0]} features do not divide into {count} rows or columns of blocks")
    return matrix.shape[0] // count


def _words(matrix: Tensor) -> str:
    return f"{matrix.dtype} of shape {tuple(matrix.shape)}"


def _depth(x: Tensor) -> int:
    # Three stages of both operands in shared memory: float64 would need more than most GPUs have.
    return 32 if x.dtype == torch.float64 else 64


def _precision() -> str:
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
