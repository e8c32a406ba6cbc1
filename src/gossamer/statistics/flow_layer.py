"""A linear layer or convolution as one product of matrices, which keeps the derivative by its weight in one place."""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.statistics.inputs import padded, unfolded


class FlowLayer:
    """Takes the place of a module's forward pass, without its bias.

    In float64 this is several times faster than a convolution of torch. The derivative by the weight is written to a
    scratch that all layers share, which stays in the cache, and what is wanted of it is taken out at once.

    Args:
        name: of the weight.
        module: Linear, Conv1d or Conv2d, whose `forward` is replaced; its weight is contiguous.
        scratch: float64, shape [n], at least as large as the weight; shared with other layers.

    Attributes:
        name: the same.
        places: linear indices of the entries whose derivatives are wanted, shape [k], int64; None: of all.
        found: derivatives by the weight there, shape [k], summed over backward passes since it was set to None.
    """

    def __init__(self, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d, scratch: Tensor) -> None:
        self.name = name
        # Weak: the module holds this object as its forward pass.
        self._module = weakref.ref(module)
        self.places: Tensor | None = None
        self.found: Tensor | None = None
        self._scratch = scratch[: module.weight.numel()]
        self._groups = getattr(module, "groups", 1)
        # Instead of the class's own.
        module.forward = self._forward  # type: ignore[method-assign]

    @property
    def module(self) -> nn.Linear | nn.Conv1d | nn.Conv2d:
        """The module, as long as its model is there."""
        found = self._module()
        if found is None:
            raise RuntimeError(f"the model of {self.name} is gone")
        return found

    def weights(self) -> Tensor:
        """View the weight as a matrix for each group: [groups, out, in]."""
        weight = self.module.weight.detach()
        return weight.view(self._groups, len(weight) // self._groups, -1)

    def add_(self, output_grads: Tensor, columns: Tensor) -> None:
        """Add what one backward pass gives."""
        torch.bmm(output_grads.mT, columns, out=self._scratch.view_as(self.weights()))
        part = at(self._scratch, self.places)
        self.found = part if self.found is None else self.found + part

    def _forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name, for calls by keyword
        inputs = input
        samples = unfolded(self.module, inputs)
        columns = samples.reshape(len(samples), self._groups, -1).transpose(0, 1)
        outputs: Tensor = _Product.apply(columns, self)  # type: ignore[no-untyped-call]
        outputs = outputs.transpose(0, 1).reshape(len(samples), -1)
        if isinstance(self.module, nn.Linear):
            return outputs.view(*inputs.shape[:-1], -1)
        places = _positions(self.module, padded(self.module, inputs))
        outputs = outputs.view(-1, *places, outputs.shape[1]).movedim(-1, 1)
        return outputs if inputs.dim() == outputs.dim() else outputs[0]


def _positions(module: nn.Conv1d | nn.Conv2d, image: Tensor) -> list[int]:
    """How many outputs there are along each axis."""
    axes = zip(image.shape[2:], module.kernel_size, module.dilation, module.stride, strict=True)
    return [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, dilation, stride in axes]


class _Product(torch.autograd.Function):
    """Columns of shape [groups, n, in] to outputs of shape [groups, n, out]."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, layer: FlowLayer) -> Tensor:
        columns = columns.contiguous()
        ctx.save_for_backward(columns)
        ctx.layer = layer
        return _product(columns, layer.weights().mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_grads: Tensor) -> tuple[Tensor, None]:
        (columns,) = ctx.saved_tensors
        ctx.layer.add_(output_grads, columns)
        return _product(output_grads, ctx.layer.weights()), None


def _product(left: Tensor, right: Tensor) -> Tensor:
    if len(left) > 1:
        return left @ right
    # torch is faster at matrices than at a batch of one.
    found = left.new_empty(1, left.shape[1], right.shape[2])
    torch.mm(left[0], right[0], out=found[0])
    return found


def at(tensor: Tensor, places: Tensor | None) -> Tensor:
    """Return a copy of the entries of a tensor at linear indices; None: of all, as a vector."""
    flat = tensor.reshape(-1)
    return flat.clone() if places is None else flat.index_select(0, places)
