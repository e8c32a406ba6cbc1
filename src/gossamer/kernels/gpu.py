"""Triton kernels of the sparse products; `gpu_ops` and `gpu_block_ops` choose the tiles and launch them.

Shapes: F = features in, O = features out, B = batch, K = active weights or blocks. Batch is the fast axis: [F, B].
ENTRIES = active weights worked on at once, SAMPLES = tile of the batch, ROWS x COLUMNS = a block.

One program owns one row of the weight and one tile of the batch. It walks the row ENTRIES weights at a time and loads
the matching rows of x as a tile [ENTRIES, SAMPLES]: a warp reads up to 512 bytes in a row, 16 a thread, several such
loads in flight. Programs are numbered with the rows first, so those that run together share one tile of x, of
F * SAMPLES numbers, which stays in the L2 cache. What limits them are therefore the K * B numbers that cross from L2 to
the multiprocessors, not memory and not arithmetic. Backward fused gathers them once for both of its results.

Every result is written by one program in a fixed order, so the bits do not change from run to run.
"""

import triton
from triton import language as tl


@triton.jit
def _wide(tile):
    """The type that sums are kept in: float64 for itself, float32 for all others."""
    return tile if tile.dtype == tl.float64 else tile.to(tl.float32)


@triton.jit
def _load_row(matrix, row, stride, samples, batch):
    return _wide(tl.load(matrix + row.to(tl.int64) * stride + samples, mask=samples < batch, other=0.0))


@triton.jit
def _gather(matrix, rows, inside, stride, samples, batch):
    # 64 bits: features times batch may pass 2^31.
    places = rows.to(tl.int64)[:, None] * stride + samples[None, :]
    return _wide(tl.load(matrix + places, mask=inside[:, None] & (samples < batch)[None, :], other=0.0))


@triton.jit
def multiply(
    pointers,
    indices,
    permutation,
    values,
    bias,
    x,
    result,
    num_rows,
    batch,
    x_stride,
    ENTRIES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Compute result = W x + bias for one row and one tile; `permutation` and `bias` may be None."""
    row = tl.program_id(0) % num_rows
    samples = tl.program_id(0) // num_rows * SAMPLES + tl.arange(0, SAMPLES)
    last = tl.load(pointers + row + 1)
    total = tl.zeros([ENTRIES, SAMPLES], tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32)
    for start in range(tl.load(pointers + row), last, ENTRIES):
        slots = start + tl.arange(0, ENTRIES)
        inside = slots < last
        tile = _gather(x, tl.load(indices + slots, mask=inside, other=0), inside, x_stride, samples, batch)
        if permutation is not None:
            slots = tl.load(permutation + slots, mask=inside, other=0)
        # One sum over the entries at the end, not one a chunk: it crosses the warps.
        total += _wide(tl.load(values + slots, mask=inside, other=0.0))[:, None] * tile
    outcome = tl.sum(total, 0)
    if bias is not None:
        outcome += _wide(tl.load(bias + row))
    tl.store(result + row.to(tl.int64) * batch + samples, outcome, mask=samples < batch)


@triton.jit
def sample(
    pointers,
    indices,
    grad,
    x,
    partial,
    num_rows,
    batch,
    num_active,
    grad_stride,
    x_stride,
    ENTRIES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Compute partial[tile, k] = grad[row of k] . x[column of k] over the samples of one tile, for one row."""
    row, part = tl.program_id(0) % num_rows, tl.program_id(0) // num_rows
    samples = part * SAMPLES + tl.arange(0, SAMPLES)
    row_grad = _load_row(grad, row, grad_stride, samples, batch)
    last = tl.load(pointers + row + 1)
    for start in range(tl.load(pointers + row), last, ENTRIES):
        slots = start + tl.arange(0, ENTRIES)
        inside = slots < last
        tile = _gather(x, tl.load(indices + slots, mask=inside, other=0), inside, x_stride, samples, batch)
        tl.store(partial + part.to(tl.int64) * num_active + slots, tl.sum(row_grad[None, :] * tile, 1), mask=inside)


@triton.jit
def backward(
    pointers,
    indices,
    permutation,
    values,
    grad,
    x,
    grad_x,
    partial,
    num_columns,
    batch,
    num_active,
    grad_stride,
    x_stride,
    ENTRIES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Compute both gradients for one column of the weight and one tile: each row of `grad` is gathered once."""
    column, part = tl.program_id(0) % num_columns, tl.program_id(0) // num_columns
    samples = part * SAMPLES + tl.arange(0, SAMPLES)
    column_x = _load_row(x, column, x_stride, samples, batch)
    last = tl.load(pointers + column + 1)
    total = tl.zeros([ENTRIES, SAMPLES], tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32)
    for start in range(tl.load(pointers + column), last, ENTRIES):
        places = start + tl.arange(0, ENTRIES)
        inside = places < last
        tile = _gather(grad, tl.load(indices + places, mask=inside, other=0), inside, grad_stride, samples, batch)
        slots = tl.load(permutation + places, mask=inside, other=0)
        total += _wide(tl.load(values + slots, mask=inside, other=0.0))[:, None] * tile
        tl.store(partial + part.to(tl.int64) * num_active + slots, tl.sum(tile * column_x[None, :], 1), mask=inside)
    tl.store(grad_x + column.to(tl.int64) * x_stride + samples, tl.sum(total, 0), mask=samples < batch)


@triton.jit
def multiply_blocks(
    pointers,
    indices,
    permutation,
    blocks,
    bias,
    x,
    result,
    num_rows,
    batch,
    x_stride,
    row_step,
    column_step,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SAMPLES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute result = W x + bias for one row of blocks; steps swapped, blocks are read transposed."""
    row = tl.program_id(0) % num_rows
    samples = tl.program_id(0) // num_rows * SAMPLES + tl.arange(0, SAMPLES)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, SAMPLES], tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32)
    for slot in range(tl.load(pointers + row), tl.load(pointers + row + 1)):
        features = tl.load(indices + slot).to(tl.int64) * COLUMNS + columns
        place = slot if permutation is None else tl.load(permutation + slot)
        within = rows[:, None] * row_step + columns[None, :] * column_step
        block = tl.load(blocks + place.to(tl.int64) * (ROWS * COLUMNS) + within)
        tile = tl.load(x + features[:, None] * x_stride + samples[None, :], mask=samples[None, :] < batch, other=0.0)
        total = tl.dot(block, tile, total, input_precision=PRECISION, out_dtype=total.dtype)
    outputs = row.to(tl.int64) * ROWS + rows
    if bias is not None:
        total += _wide(tl.load(bias + outputs))[:, None]
    tl.store(result + outputs[:, None] * batch + samples[None, :], total, mask=samples[None, :] < batch)


@triton.jit
def sample_blocks(
    row_indices,
    column_indices,
    grad,
    x,
    result,
    batch,
    grad_stride,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SAMPLES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute one block of grad x^T: the whole batch, tile after tile."""
    slot = tl.program_id(0)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    outputs = tl.load(row_indices + slot).to(tl.int64) * ROWS + rows
    features = tl.load(column_indices + slot).to(tl.int64) * COLUMNS + columns
    total = tl.zeros([ROWS, COLUMNS], tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32)
    for start in range(0, batch, SAMPLES):
        samples = (start + tl.arange(0, SAMPLES))[None, :]
        row_grad = tl.load(grad + outputs[:, None] * grad_stride + samples, mask=samples < batch, other=0.0)
        tile = tl.load(x + features[:, None] * x_stride + samples, mask=samples < batch, other=0.0)
        total = tl.dot(row_grad, tl.trans(tile), total, input_precision=PRECISION, out_dtype=total.dtype)
    within = rows[:, None] * COLUMNS + columns[None, :]
    tl.store(result + slot.to(tl.int64) * (ROWS * COLUMNS) + within, total)
