"""What a truly sparse layer computes with, as its dense gradient needs it: inputs and output gradients of a call.

Linear: rows [n, in] and [n, out]. Convolutions: images [N, C, H, W], height 1 for those of one dimension. Embeddings:
indices [n], int64, and rows [n, embedding_dim].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gossamer.kernels import conv_fallback
from gossamer.nn import SparseConv1d, SparseConv2d, SparseEmbedding
from gossamer.nn.counterparts import SparseLayer


def inputs_of(layer: SparseLayer, inputs: Tensor) -> Tensor:
    """Return a copy of what a layer was called with: the user may fill the same buffer with the next batch."""
    if isinstance(layer, SparseEmbedding):
        return inputs.detach().long().reshape(-1).clone()
    inputs = inputs.detach().to(layer.values.dtype, copy=True)
    if isinstance(layer, SparseConv2d):
        return inputs if inputs.dim() == 4 else inputs[None]
    if isinstance(layer, SparseConv1d):
        return inputs.unsqueeze(-2) if inputs.dim() == 3 else inputs[None, :, None]
    return inputs.reshape(math.prod(inputs.shape[:-1]), layer.in_features)


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
def bridge_tile(pairs: list[tuple[Tensor, Tensor]], start: int, stop: int) -> Tensor:
    """Return some rows of the gradient of a weight that would lead from the inputs of one layer to outputs of another.

    Args:
        pairs: inputs [n, in] of the one and output gradients [n, out] of the other, one pair for each call.
        start: first row.
        stop: the one after the last.
    """
    parts = [grads[:, start:stop].t() @ inputs for inputs, grads in pairs]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def gradient_rows(layer: SparseLayer, inputs: Tensor, output_grad: Tensor, start: int, stop: int) -> Tensor:
    """Return the gradient of some rows of the weight, as if all its entries existed.

    Args:
        layer: truly sparse.
        inputs: from `inputs_of`.
        output_grad: gradient of the output, of `outputs_shape`.
        start: first row.
        stop: the one after the last.
    """
    if isinstance(layer, (SparseConv2d, SparseConv1d)):
        return conv_fallback.grad_rows(output_grad, inputs, layer.window, start, stop)
    if isinstance(layer, SparseEmbedding):
        here = (inputs >= start) & (inputs < stop)
        if layer.padding_idx is not None:
            here &= inputs != layer.padding_idx
        rows = output_grad.new_zeros(stop - start, output_grad.shape[1])
        return rows.index_add_(0, inputs[here] - start, output_grad[here])
    return output_grad[:, start:stop].t() @ inputs
