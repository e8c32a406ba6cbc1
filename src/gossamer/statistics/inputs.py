"""What goes into each weight: norms and second moments of its inputs, in one pass over the data."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.nn import SparseConv1d, SparseConv2d, SparseLinear
from gossamer.statistics.batches import call, device_of, read
from gossamer.statistics.untouched import untouched

_SPARSE_CONVOLUTIONS = (SparseConv1d, SparseConv2d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, *_SPARSE_CONVOLUTIONS)


class Moments(NamedTuple):
    """Sums over all samples and positions.

    Attributes:
        num_rows: rows summed over.
        square: sum of squares of each input, shape [in], float64.
        gram: sum of x x^T, shape [in, in], float64; None where it was not asked for.
    """

    num_rows: int
    square: Tensor
    gram: Tensor | None


def input_moments(
    model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any], *, gram: bool
) -> dict[str, Moments]:
    """Sum the squares, or the outer products, of the inputs of each weight.

    A convolution is a linear layer on unfolded inputs: in = channels of the group x kernel, and each position of the
    output is a row. A shared module sees all its calls.

    Args:
        model: measured in evaluation mode, left as it is.
        owners: module of each weight by name: linear, or a convolution of one group, dense or truly sparse.
        data: batches; targets are not looked at.
        gram: whether to sum the outer products too, of in^2 numbers each.

    Returns:
        Name -> moments.

    Raises:
        ValueError: a module of another kind, one that the forward pass does not call, or inputs that are not finite.

    Cost: one pass over the data.
    """
    found: dict[str, Moments] = {}
    for name, module in owners.items():
        _check_kind(name, module)
    handles = [
        module.register_forward_pre_hook(_recorder(name, found, gram), with_kwargs=True)
        for name, module in owners.items()
    ]
    device = device_of(model)
    try:
        with untouched(model), torch.no_grad():
            for batch in read(data, device=device, labelled=False):
                call(model, batch.inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name in owners:
        if name not in found:
            raise ValueError(f"the model's forward pass does not call the layer of {name}; exclude it")
        if not bool(found[name].square.isfinite().all()):
            raise ValueError(f"the inputs of {name} hold NaN or infinity; check the data")
    return found


def given(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """Return what a layer was called with, by place or by name."""
    inputs: Tensor = args[0] if args else next(iter(keywords.values()))
    return inputs


def unfolded(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a layer multiplies with its weight: rows of [n, in]."""
    if isinstance(module, nn.Conv1d):
        image = padded(module, inputs)[:, :, None, :]
        return _columns(image, (1, *module.kernel_size), (1, *module.dilation), (1, *module.stride))
    if isinstance(module, nn.Conv2d):
        return _columns(padded(module, inputs), module.kernel_size, module.dilation, module.stride)
    if isinstance(module, _SPARSE_CONVOLUTIONS):
        window, axes = module.window, len(module.kernel_size)
        image = inputs if inputs.dim() == axes + 2 else inputs[None]
        image = F.pad(image if axes == 2 else image[:, :, None], (window.left, window.right, window.top, window.bottom))
        return _columns(image, window[:2], window[8:10], window[2:4])
    return inputs.reshape(-1, inputs.shape[-1])


def padded(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return a batch with what a convolution pads it with."""
    if inputs.dim() == len(module.kernel_size) + 1:
        inputs = inputs[None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)


def _columns(inputs: Tensor, kernel: Any, dilation: Any, stride: Any) -> Tensor:
    columns = F.unfold(inputs, kernel, dilation=dilation, stride=stride)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _recorder(name: str, found: dict[str, Moments], gram: bool) -> Callable[[nn.Module, Any, dict[str, Any]], None]:
    def record(module: nn.Module, args: Any, keywords: dict[str, Any]) -> None:
        inputs = given(args, keywords)
        # Sums of squares of half precision overflow, and those of float32 lose the small ones.
        rows = unfolded(module, inputs.detach()).double()
        outer = rows.T @ rows if gram else None
        square = rows.square().sum(0) if outer is None else outer.diagonal().clone()
        before = found.get(name)
        if before is not None:
            square += before.square
            outer = None if outer is None or before.gram is None else outer + before.gram
        found[name] = Moments(len(rows) + (before.num_rows if before else 0), square, outer)

    return record


def _check_kind(name: str, module: nn.Module) -> None:
    linear = isinstance(module, (nn.Linear, SparseLinear))
    grouped = isinstance(module, _CONVOLUTIONS) and module.groups > 1
    if grouped or not (linear or isinstance(module, _CONVOLUTIONS)):
        what = f"a convolution of {module.groups} groups" if grouped else type(module).__name__
        raise ValueError(
            f"the inputs of {name}, of {what}, cannot be measured; exclude it, or take a criterion that needs none"
        )
