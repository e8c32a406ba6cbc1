"""What a truly sparse layer computes with, as its dense gradient needs it: inputs and output gradients of a call.

Linear: rows [n, in] and [n, out]. Convolutions: images [N, C, H, W], height 1 for those of one dimension. Embeddings:
indices [n], int64, and rows [n, embedding_dim].
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gossamer import topology
from gossamer.kernels import buffers, conv_fallback, conv_on_cpu
from gossamer.kernels.conv_fallback import Window
from gossamer.nn import SparseConv1d, SparseConv2d, SparseEmbedding, SparseLinear
from gossamer.nn.counterparts import SparseLayer
from gossamer.weights.tiles import TILE_COLUMNS, Tile, tiles


def inputs_of(layer: SparseLayer, inputs: Tensor) -> Tensor:
    """Return a copy of what a layer was called with: the user may fill the same buffer with the next batch."""
    if isinstance(layer, SparseEmbedding):
        return inputs.detach().long().reshape(-1).clone()
    inputs = inputs.detach().to(layer.values.dtype, copy=True)
    if isinstance(layer, SparseConv2d):
        return inputs if inputs.dim() == 4 else inputs[None]
    if isinstance(layer, SparseConv1d):
        return inputs.unsqueeze(-2) if inputs.dim() == 3 else inputs[None, :, None]
    inputs = inputs.reshape(math.prod(inputs.shape[:-1]), layer.in_features)
    return inputs.t().contiguous().t()


def outputs_shape(layer: SparseLayer, output: Tensor) -> tuple[int, ...]:
    """Return the shape that the gradient of an output of a layer takes here."""
    if isinstance(layer, (SparseConv2d, SparseConv1d)):
        places = output.shape[-len(layer.kernel_size) :]
        batch = output.shape[0] if output.dim() == len(places) + 2 else 1
        return (batch, layer.out_channels, *((1, *places) if len(places) == 1 else places))
    return math.prod(output.shape[:-1]), output.shape[-1]


def on_gradient(output: Tensor, shape: tuple[int, ...], arrive: Callable[[Tensor], None], *, linear: bool) -> None:
    """Have a function called with the gradient of a layer's output.

    Args:
        output: what the layer returned.
        shape: that the gradient shall have.
        arrive: takes it, detached.
        linear: whether the layer is linear; then what the output is a view of may lie the other way.
    """
    # A hook on a view is lost where the next module works in place; one on what it views is not.
    seen = output if output._base is None else output._base
    if linear and seen.shape == shape[::-1] and (seen.shape != shape or seen.stride(0) != 1):  # feature-major
        seen.register_hook(lambda grad: arrive(grad.detach().t()))
    else:
        seen = seen if seen.numel() == output.numel() else output
        seen.register_hook(lambda grad: arrive(grad.detach().reshape(shape)))


@torch.no_grad()
def bridge_tile(pairs: list[tuple[Tensor, Tensor]], tile: Tile) -> Tensor:
    """Return a tile of the gradient of a weight that would lead from the inputs of one layer to outputs of another.

    Args:
        pairs: inputs [n, in] of the one and output gradients [n, out] of the other, one pair for each call.
        tile: which.
    """
    parts = [grads[:, tile.start : tile.stop].t() @ inputs[:, tile.left : tile.right] for inputs, grads in pairs]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def gradient_tiles(layer: SparseLayer, *, whole_rows: bool) -> Iterator[Tile]:
    """Return how the gradient of a layer's weight is cut."""
    rows, columns = layer.topology.shape
    # A convolution reads images as a whole, an embedding rows; only a product gains from less.
    most_columns = TILE_COLUMNS if isinstance(layer, SparseLinear) else None
    return tiles(rows, columns, itemsize=layer.values.element_size(), most_columns=most_columns, whole_rows=whole_rows)


def gradient_of(layer: SparseLayer, inputs: Tensor, output_grad: Tensor, tile: Tile) -> Tensor:
    """Return the gradient of a tile of the weight, as if all its entries existed.

    Args:
        layer: truly sparse.
        inputs: from `inputs_of`.
        output_grad: gradient of the output, of `outputs_shape`.
        tile: one of `gradient_tiles`.

    Returns:
        Shape [rows of the tile, columns of the tile].
    """
    start, stop, left, right = tile
    if isinstance(layer, (SparseConv2d, SparseConv1d)):
        return _of_images(layer.window, inputs, output_grad, tile)
    if isinstance(layer, SparseEmbedding):
        here = (inputs >= start) & (inputs < stop)
        if layer.padding_idx is not None:
            here &= inputs != layer.padding_idx
        rows = output_grad.new_zeros(stop - start, right - left)
        return rows.index_add_(0, inputs[here] - start, output_grad[here, left:right])
    grad_OB, inputs_BF = output_grad[:, start:stop].t(), inputs[:, left:right]
    if not inputs.is_cpu or inputs.dtype not in buffers.DTYPES:
        return grad_OB @ inputs_BF
    # Tile after tile in the same memory.
    return torch.mm(grad_OB, inputs_BF, out=buffers.results(stop - start, right - left, inputs.dtype).t())


def gradient_across(layer: SparseLayer, inputs: Tensor, output_grad: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the gradient of a linear layer where some rows and some columns cross, shape [rows, columns]."""
    return output_grad[:, rows].t() @ inputs[:, columns]


def gradient_at(layer: SparseLayer, inputs: Tensor, output_grad: Tensor, indices: Tensor) -> Tensor:
    """Return the gradient at some entries of the weight, whether they exist or not.

    Args:
        layer: truly sparse.
        inputs: from `inputs_of`.
        output_grad: gradient of the output, of `outputs_shape`.
        indices: linear indices, ascending, shape [n], int64.

    Returns:
        Shape [n], dtype of the values.

    Cost: that of the layer's own gradient, had it these n weights.
    """
    places = topology.from_linear(indices, layer.topology.shape)
    ops, index = torch.ops.gossamer, (places.row_pointers, places.column_indices)
    if isinstance(layer, (SparseConv2d, SparseConv1d)):
        ordered = conv_on_cpu.by_channel(places, layer.window)
        found: Tensor = ops.sparse_conv2d_grad_values(output_grad, inputs, *index, *ordered, list(layer.window))
        return found
    if isinstance(layer, SparseEmbedding):
        padding = -1 if layer.padding_idx is None else layer.padding_idx
        found = ops.sparse_embedding_grad(output_grad, inputs, *index, padding)
        return found
    # Row by row of the topology; its transpose, which takes longer to make than the product, is not read.
    unread = (places.row_pointers[:0],) * 3
    found = ops.sparse_linear_grad_values(output_grad.t().contiguous(), inputs.t().contiguous(), *index, *unread)
    return found


def _of_images(window: Window, images: Tensor, output_grad: Tensor, tile: Tile) -> Tensor:
    start, stop, left, right = tile
    inputs, outputs = images.shape[1] // window.groups, output_grad.shape[1] // window.groups
    if right - left == inputs * window.places:
        return conv_fallback.grad_rows(output_grad, images, window, start, stop)
    # A part of the channels of each row, so the rows of one group at a time.
    first, last = left // window.places, -(-right // window.places)
    within = slice(left - first * window.places, right - first * window.places)
    parts = []
    for group in range(start // outputs, -(-stop // outputs)):
        rows = max(start, group * outputs), min(stop, (group + 1) * outputs)
        part = images[:, group * inputs + first : group * inputs + last]
        alone = conv_fallback.grad_rows(output_grad, part, window._replace(groups=1), *rows)
        parts.append(alone[:, within])
    return torch.cat(parts)
