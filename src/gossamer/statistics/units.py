"""What the output units of a weight do: moments of their activations, and gates on them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gossamer.nn import SparseConv1d, SparseConv2d, SparseLinear
from gossamer.statistics.batches import Batch, call, device_of, read, size
from gossamer.statistics.gradients import checked_loss
from gossamer.statistics.passing import FOLLOWING
from gossamer.statistics.untouched import untouched

Observe = Callable[[str, Tensor], Tensor]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, SparseConv1d, SparseConv2d)
_OWNERS = (nn.Linear, SparseLinear, *_CONVOLUTIONS)


class UnitMoments(NamedTuple):
    """Means over samples and positions of the activations a of each unit, float64.

    Attributes:
        zero_fraction: share of activations that are exactly zero, shape [units].
        mean: E a, shape [units].
        magnitude: E |a|, shape [units].
        energy: E a^2, shape [units].
        covariance: of the units with one another, shape [units, units].
    """

    zero_fraction: Tensor
    mean: Tensor
    magnitude: Tensor
    energy: Tensor
    covariance: Tensor


def unit_moments(model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any]) -> dict[str, UnitMoments]:
    """Take moments of the activations of each layer's output units, in one pass over the data.

    The activation of a unit is what comes out of the element-wise functions and the batch normalisation that follow
    its layer at once: of Linear - ReLU the value after ReLU.

    Args:
        model: measured in evaluation mode, left as it is; any forward pass, nothing is traced.
        owners: module of each weight by name.
        data: batches; targets are not looked at.

    Returns:
        Name -> moments.

    Raises:
        ValueError: the forward pass does not call a layer, or activations are not finite.
    """
    sums: dict[str, list[Tensor]] = {}
    _check_kinds(owners)
    count: dict[str, int] = dict.fromkeys(owners, 0)

    def observe(name: str, activation: Tensor) -> Tensor:
        rows = _by_unit(owners[name], activation).detach().double()
        parts = [(rows == 0).double().sum(0), rows.sum(0), rows.abs().sum(0), rows.T @ rows]
        sums[name] = [old + new for old, new in zip(sums[name], parts, strict=True)] if name in sums else parts
        count[name] += len(rows)
        return activation

    with untouched(model), torch.no_grad():
        for batch in read(data, device=device_of(model), labelled=False):
            observed(model, owners, batch.inputs, observe)
    return {name: _moments(name, sums[name], count[name]) for name in owners}


def unit_gates(
    model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor]
) -> dict[str, Tensor]:
    """Return dL/d alpha at alpha = 1 for a factor alpha on each unit's activation, for each sample.

    L is the loss of one sample; the derivative equals the sum over positions of a dL/da.

    Args:
        model: measured in evaluation mode, left as it is.
        owners: module of each weight by name.
        data: labelled batches.
        loss_fn: (outputs, targets) -> scalar, the mean over the samples of a batch.

    Returns:
        Name -> derivatives, shape [samples, units].

    Raises:
        ValueError: the forward pass does not call a layer, or the loss does not depend on it.
    """
    _check_kinds(owners)
    found: dict[str, list[Tensor]] = {name: [] for name in owners}
    with untouched(model):
        for batch in read(data, device=device_of(model), labelled=True):
            gates: dict[str, Tensor] = {}

            def gate(name: str, activation: Tensor, gates: dict[str, Tensor] = gates, batch: Batch = batch) -> Tensor:
                axis = _unit_axis(owners[name], activation)
                shape = [1] * activation.dim()
                shape[0], shape[axis] = activation.shape[0], activation.shape[axis]
                gates[name] = gates.get(name, activation.new_ones(shape).requires_grad_())
                if list(gates[name].shape) != shape or shape[0] != size(batch):
                    raise ValueError(
                        f"the layer of {name} is called on {shape[0]} rows where the batch has {size(batch)} samples: "
                        "what its units do for one of them is not known; exclude it"
                    )
                return activation * gates[name]

            outputs = observed(model, owners, batch.inputs, gate)
            loss = checked_loss(loss_fn(outputs, batch.targets))
            gradients = torch.autograd.grad(loss, [gates[name] for name in owners], allow_unused=True)
            for name, gradient in zip(owners, gradients, strict=True):
                if gradient is None:
                    raise ValueError(f"the loss does not depend on the units of {name}; exclude it")
                # The loss is a mean over the batch; a sample's own is `size` times its part.
                found[name].append(gradient.flatten(1) * size(batch))
    return {name: torch.cat(parts) for name, parts in found.items()}


def observed(model: nn.Module, owners: Mapping[str, nn.Module], inputs: Any, observe: Observe) -> Any:
    """Run the model and pass each layer's activations through `observe`, which may replace them.

    Raises:
        ValueError: the forward pass does not call a layer.
    """
    lengths = _Lengths()
    _run(model, owners, inputs, lengths)
    missing = [name for name in owners if name not in lengths.chains]
    if missing:
        raise ValueError(f"the model's forward pass does not call the layer of {', '.join(missing)}; exclude it")
    return _run(model, owners, inputs, _Replaced(lengths.chains, observe))


class _Lengths:
    """Counts, at each call of a layer, the functions that follow it."""

    def __init__(self) -> None:
        self.chains: dict[str, list[int]] = {}

    def link(self, name: str, number: int, length: int, value: Tensor) -> Tensor:
        chain = self.chains.setdefault(name, [])
        chain.extend([0] * (number + 1 - len(chain)))
        chain[number] = length
        return value


class _Replaced:
    """Hands the end of each chain to the observer."""

    def __init__(self, chains: Mapping[str, list[int]], observe: Observe) -> None:
        self.chains, self.observe = chains, observe

    def link(self, name: str, number: int, length: int, value: Tensor) -> Tensor:
        return self.observe(name, value) if self.chains[name][number] == length else value


class _Follow(TorchFunctionMode):
    """Sees every function of torch that the forward pass calls, and which layer's output it works on."""

    def __init__(self, visitor: _Lengths | _Replaced) -> None:
        super().__init__()
        self.visitor = visitor
        self.heads: dict[int, tuple[Tensor, str, int, int]] = {}
        self.calls: dict[str, int] = {}

    def start(self, name: str, value: Tensor) -> Tensor:
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        return self._tag(name, number, 0, value)

    def _tag(self, name: str, number: int, length: int, value: Tensor) -> Tensor:
        value = self.visitor.link(name, number, length, value)
        # The tensor is held, so that its id stays its own.
        self.heads[id(value)] = (value, name, number, length)
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        head = self.heads.get(id(args[0])) if args and isinstance(args[0], Tensor) else None
        # The mode is off inside: a function that is made of others is seen once.
        result = func(*args, **(kwargs or {}))
        if head is None or func not in FOLLOWING or not isinstance(result, Tensor):
            return result
        self.heads.pop(id(args[0]), None)
        return self._tag(head[1], head[2], head[3] + 1, result)


def _run(model: nn.Module, owners: Mapping[str, nn.Module], inputs: Any, visitor: _Lengths | _Replaced) -> Any:
    mode = _Follow(visitor)
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: mode.start(name, output))
        for name, module in owners.items()
    ]
    try:
        with mode:
            return call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _unit_axis(owner: nn.Module, activation: Tensor) -> int:
    """The axis of the units: channels for a convolution, the last one for a linear layer."""
    return 1 if isinstance(owner, _CONVOLUTIONS) else activation.dim() - 1


def _by_unit(owner: nn.Module, activation: Tensor) -> Tensor:
    axis = _unit_axis(owner, activation)
    return activation.movedim(axis, -1).reshape(-1, activation.shape[axis])


def _moments(name: str, sums: list[Tensor], count: int) -> UnitMoments:
    zeros, total, magnitude, outer = (part / max(count, 1) for part in sums)
    if not bool(total.isfinite().all()):
        raise ValueError(f"the activations of {name} hold NaN or infinity; check the data and the weights")
    covariance = outer - torch.outer(total, total)
    return UnitMoments(zeros, total, magnitude, outer.diagonal().clone(), covariance)


def _check_kinds(owners: Mapping[str, nn.Module]) -> None:
    for name, owner in owners.items():
        if not isinstance(owner, _OWNERS):
            raise ValueError(f"{name} is of {type(owner).__name__}, whose outputs are not its rows; exclude it")
