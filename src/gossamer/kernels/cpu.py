"""Products of a sparse weight with a feature-major batch, in Numba, touching only the weights that exist.

Shapes: F = features in, O = features out, B = batch, K = active weights. `x_FB` and `g_OB` are contiguous, batch last.
Each function walks the rows of a CSR matrix; for a tile of the batch that fits the registers it keeps the running sum
there while it walks, so a result is written once for each stripe of what it gathers, see `panels`. Rows are cut into
blocks of equal work, and one thread owns a result: the same bits come out whatever the number of threads.
"""

import threading
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import backward as backward_kernel
from gossamer.kernels import forward, panels, threads, update, vector
from gossamer.kernels.blocks import NUMPY, OPTIONS, TASK, next_block, next_rows
from gossamer.kernels.simd import CHUNK_BYTES, claim, dot, load, load_first, pick, pointer, put, splat, width_bytes

# Blocks for each thread: more than one, so that a thread that is held up is not waited for.
BLOCKS = 4
# Sums below which one thread adds up what the groups made faster than two would find to each other.
_JOINED = 1 << 14


@njit(**OPTIONS)
def _sample_rows(pointers, indices, g_OB, x_FB, grad_values, grad_bias, width, lanes, start, stop):
    batch = x_FB.shape[1]
    one = splat(g_OB.dtype.type(1), width)
    for column in range(0, batch, lanes):
        count = batch - column
        for row in range(start, stop):
            g = load(g_OB, row, column, width) if count >= lanes else load_first(g_OB, row, column, width, count)
            if grad_bias.size:
                put(grad_bias, row, dot(g, one) if column == 0 else pick(grad_bias, row) + dot(g, one))
            for slot in range(np.int64(pointers[row]), np.int64(pointers[row + 1])):
                index = np.int64(pick(indices, slot))
                if count >= lanes:
                    x = load(x_FB, index, column, width)
                else:
                    x = load_first(x_FB, index, column, width, count)
                put(grad_values, slot, dot(g, x) if column == 0 else pick(grad_values, slot) + dot(g, x))


@cache
def _sample_task(real, integer, width):
    """Compile the task that writes the gradient of the weights; its data: see `sample`."""
    lanes = width_bytes(width) // np.dtype(real).itemsize

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features, batch = numbers[6], numbers[7], numbers[8], numbers[9]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        g_OB = carray(pointer(numbers[2]), (rows, batch), real)
        x_FB = carray(pointer(numbers[3]), (features, batch), real)
        grad_values = carray(pointer(numbers[4]), active, real)
        grad_bias = carray(pointer(numbers[5]), rows if numbers[5] else 0, real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _sample_rows(pointers, indices, g_OB, x_FB, grad_values, grad_bias, width, lanes, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return task.address


@njit(**OPTIONS)
def _transpose_columns(x_BF, x_FB, start, stop):
    # The batch innermost: writes run along memory, and the lines read stay in the first cache for a whole block.
    for feature in range(start, stop):
        for sample in range(x_BF.shape[0]):
            x_FB[feature, sample] = x_BF[sample, feature]


@cache
def _transpose_task(real):
    """Compile the task that writes a batch-major matrix feature by feature; its data: see `transpose`."""
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        batch, features = numbers[2], numbers[3]
        x_BF = carray(pointer(numbers[0]), (batch, features), real)
        x_FB = carray(pointer(numbers[1]), (features, batch), real)
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            _transpose_columns(x_BF, x_FB, block * lanes, min((block + 1) * lanes, features))
            block = next_block(data, mine)

    return task.address


# What the operators call: contiguous tensors on the CPU, values float32 or float64, indices all int32 or all int64.


def multiply(
    pointers: Tensor,
    indices: Tensor,
    values: Tensor,
    bias: Tensor,
    x_FB: Tensor,
    y_OB: Tensor,
    *,
    transposed: Sequence[Tensor] | None = None,
    relu: bool = False,
) -> None:
    """Write W x + b to y, or relu(W x + b).

    `transposed` is the topology by columns, as in `backward`; with it a single sample that is mostly zero costs less.
    """
    features, batch = x_FB.shape
    rows, active = pointers.numel() - 1, indices.numel()
    tensors = (pointers, indices, values, bias, x_FB, y_OB)
    if batch == 1:
        by_columns = (0, 0, 0) if transposed is None else tuple(part.data_ptr() for part in transposed)
        _run(vector.multiply_task(*_types(pointers, x_FB)), tensors, rows, active, features, *by_columns)
        if relu:
            y_OB.relu_()
        return
    cut = _plan(rows, features, active, batch, x_FB)
    cursor, panels, _ = scratch(cut, rows)
    threads.run(
        forward.task(*_types(pointers, x_FB), *flags(cut), (0,) if relu else ()),
        [
            *(tensor.data_ptr() for tensor in tensors),
            *(cursor, panels, rows, active, features, batch, cut.stripe, cut.groups),
        ],
        num_blocks=cut.num_blocks,
    )


def backward(
    pointers: Tensor,
    indices: Tensor,
    permutation: Tensor,
    values: Tensor,
    x_FB: Tensor,
    g_OB: Tensor,
    grad_x_FB: Tensor,
    grad_values: Tensor,
    grad_bias: Tensor | None = None,
    *,
    relu: bool = False,
    rule: update.Rule | None = None,
) -> None:
    """Write W^T g to grad_x and the gradient of the weights to grad_values, sharing each load of g; sum g to grad_bias.

    With `relu`, x came out of a ReLU and grad_x is the gradient before that: zero where x is not above zero. With
    `rule`, the weights are updated, and grad_values holds nothing of use.
    Walks the transpose: `pointers` and `indices` are by columns of the weight, `permutation` leads to the values.
    """
    outputs, batch = g_OB.shape
    columns, active = pointers.numel() - 1, indices.numel()
    cut = _plan(columns, outputs, active, batch, x_FB, rotates=True)
    cursor, panels, sums = scratch(cut, columns, (cut.groups - 1) * active * x_FB.element_size())
    tensors = (pointers, indices, permutation, values, x_FB, g_OB, grad_x_FB, grad_values)
    threads.run(
        backward_kernel.task(*_types(pointers, x_FB), *flags(cut), (0,) if relu else ()),
        [
            *(tensor.data_ptr() for tensor in tensors),
            *(cursor, panels, columns, active, outputs, batch, cut.stripe),
            0 if grad_bias is None else grad_bias.data_ptr(),
            *(cut.groups, sums),
        ],
        num_blocks=cut.num_blocks,
    )
    if rule is not None:
        update.apply(rule, grad_values, sums, cut.groups)
    elif cut.groups > 1:
        threads.run(
            backward_kernel.join_task(NUMPY[x_FB.dtype]),
            [grad_values.data_ptr(), sums, active, cut.groups],
            num_blocks=max(1, min(torch.get_num_threads(), active // _JOINED)),
        )


def backward_one(
    index: Sequence[Tensor], values: Tensor, x: Tensor, g: Tensor, grad_x: Tensor, grad_values: Tensor
) -> None:
    """Write both gradients for a batch of one; `index` as the operators take it."""
    row_pointers, column_indices, column_pointers, row_indices, permutation = index
    tensors = (column_pointers, row_indices, permutation, values, x, g, grad_x, grad_values)
    _run(
        vector.backward_task(*_types(row_pointers, x)),
        (*tensors, row_pointers, column_indices),
        x.shape[0],
        values.numel(),
        g.shape[0],
    )


def sample(
    pointers: Tensor,
    indices: Tensor,
    g_OB: Tensor,
    x_FB: Tensor,
    grad_values: Tensor,
    grad_bias: Tensor | None = None,
) -> None:
    """Write to grad_values[k] the product of row g[row of k] with x[column of k]; sum g to grad_bias.

    That is the gradient of the weights alone. A batch of one has its own kernel, which leaves grad_bias to the caller.
    """
    tensors = (pointers, indices, g_OB, x_FB, grad_values)
    sizes = (pointers.numel() - 1, indices.numel(), *x_FB.shape)
    if x_FB.shape[1] == 1:
        return _run(vector.sample_task(*_types(pointers, x_FB)), tensors, *sizes)
    task = _sample_task(*_types(pointers, x_FB), panels.tile_width(x_FB.shape[1], x_FB.element_size(), panels.WIDEST))
    _run(task, tensors, 0 if grad_bias is None else grad_bias.data_ptr(), *sizes)


def transpose(x_BF: Tensor) -> Tensor:
    """Return a contiguous batch-major matrix as a feature-major one, twice as fast as torch's copy."""
    batch, features = x_BF.shape
    x_FB = x_BF.new_empty(features, batch)
    num_blocks = -(-features * x_BF.element_size() // CHUNK_BYTES)
    threads.run(
        _transpose_task(NUMPY[x_BF.dtype]), [x_BF.data_ptr(), x_FB.data_ptr(), batch, features], num_blocks=num_blocks
    )
    return x_FB


def _run(task: int, tensors: Sequence[Tensor], *sizes: int) -> None:
    numbers = [*(tensor.data_ptr() for tensor in tensors), *sizes]
    threads.run(task, numbers, num_blocks=BLOCKS * torch.get_num_threads())


def _types(pointers: Tensor, x: Tensor) -> tuple[type, type]:
    return NUMPY[x.dtype], NUMPY[pointers.dtype]


def _plan(rows: int, gathered: int, active: int, batch: int, x: Tensor, *, rotates: bool = False) -> panels.Plan:
    itemsize, widest = x.element_size(), panels.WIDEST
    return panels.plan(
        rows=rows,
        gathered=gathered,
        active=active,
        batch=batch,
        itemsize=itemsize,
        team=torch.get_num_threads(),
        widest=widest,
        groups=panels.groups_of(batch, itemsize, widest, active if rotates else 0),
        rotates=rotates,
    )


def flags(cut: panels.Plan) -> tuple[panels.Width, tuple[int, ...], tuple[int, ...]]:
    """What the kernel is compiled for: (0,) for yes, () for no."""
    return cut.width, (0,) if cut.num_stripes > 1 else (), (0,) if cut.packs else ()


_arenas = threading.local()


def scratch(cut: panels.Plan, rows: int, sums_bytes: int = 0) -> tuple[int, int, int]:
    """Return addresses in memory that is kept from call to call: of cursors, of panels, of the groups' own sums."""
    cursor_bytes = _whole(8 * rows * cut.groups if cut.num_stripes > 1 else 0)
    panels_bytes = _whole(torch.get_num_threads() * cut.panel_bytes)
    size = cursor_bytes + panels_bytes + sums_bytes
    if size == 0:
        return 0, 0, 0
    size += CHUNK_BYTES
    arena: Tensor | None = getattr(_arenas, "bytes", None)
    if arena is None or arena.numel() < size:
        arena = _arenas.bytes = torch.empty(size, dtype=torch.uint8, device="cpu")
    start = _whole(arena.data_ptr())
    return start, start + cursor_bytes, start + cursor_bytes + panels_bytes


def _whole(num_bytes: int) -> int:
    return -(-num_bytes // CHUNK_BYTES) * CHUNK_BYTES
