"""Synaptic flow: what a vector of ones would bring from the inputs to the outputs if every weight were positive."""

import copy
import weakref
from collections.abc import Mapping
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from gossamer.statistics.flow_layer import FlowLayer, at


class NoFlowError(ValueError):
    """No path leads from the inputs to the outputs."""


@final
class Flow:
    """The synaptic flow R of a model and its derivatives, in float64.

    R = 1^T |W_L| ... |W_1| 1

    It is measured on a copy of the model: every factor by its absolute value, biases, shifts and running means zero,
    batch normalisation as in evaluation mode, and a normalisation by what it is given (layer, group, RMS) as its
    factors alone. Nothing but the shape of an input is needed, no data.

    Args:
        model: left as it is.
        weights: parameters of the model by name.
        example: one input, or a batch of them, shape [samples, ...]; only its shape counts.

    Raises:
        ValueError: the example is no tensor of numbers that can all be one, such as class numbers for an embedding.

    Source:
        Tanaka, Kunin, Yamins, Ganguli. Pruning neural networks without any data by iteratively conserving synaptic
        flow. NeurIPS 2020, arXiv:2006.05467.
        Differs: biases and shifts are left out. The authors' code takes their absolute values along, and the flow that
        enters through them breaks the equality of the layer totals on which the guarantee rests. float64: the flow
        of deep residual networks passes the largest float32.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor], *, example: Tensor) -> None:
        if not isinstance(example, Tensor) or not example.is_floating_point():
            kind = str(example.dtype) if isinstance(example, Tensor) else type(example).__name__
            raise ValueError(f"the flow starts from inputs of real numbers, got {kind}; pass a float example input")
        places = {id(parameter): name for name, parameter in weights.items()}
        # Its own values, which `set_` and `remove_` change.
        self._twin = copy.deepcopy(model).double().eval()
        twins = dict(zip(model.parameters(), self._twin.parameters(), strict=True))
        self._weights = {places[id(own)]: twin for own, twin in twins.items() if id(own) in places}
        self._ones = torch.ones(1, *example.shape[1:], dtype=torch.float64, device=example.device)
        _make_positive_(self._twin)
        for twin in twins.values():
            twin.requires_grad_(False)
        for weight in self._weights.values():
            weight.requires_grad_().data = weight.data.contiguous()
        scratch = self._ones.new_empty(max((weight.numel() for weight in self._weights.values()), default=0))
        self._layers = [
            FlowLayer(name, module, scratch)
            for name, weight in self._weights.items()
            for module in self._twin.modules()
            # A class of the user's own may do more than multiply.
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d))
            and type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d)
            and module.weight is weight
        ]

    def set_(self, weights: Mapping[str, Tensor]) -> None:
        """Take other values of the weights, by name; zero where one is absent."""
        for name, own in self._weights.items():
            own.detach().copy_(weights[name].detach()).abs_()

    def remove_(self, name: str, indices: Tensor) -> None:
        """Take entries out of a weight, by their linear indices."""
        self._weights[name].detach().view(-1).index_fill_(0, indices, 0.0)

    def measure(self, places: Mapping[str, Tensor | None] | None = None) -> tuple[float, dict[str, Tensor]]:
        """Return R and its derivative at |w| for each weight.

        Args:
            places: the linear indices of those that are wanted of each weight, by name: shape [n], int64, or None for
                all of them. Left out: whole tensors.

        Returns:
            R, and name -> dR/d|w|, float64, never negative: shape of the weight, or [n] where places were asked for.

        Raises:
            NoFlowError: R is zero: no path from input to output is left.
            ValueError: R is not positive and finite, or does not depend on a weight.
        """
        for layer in self._layers:
            layer.places, layer.found = places[layer.name] if places else None, None
        value, elsewhere = self._pass()
        found = {name: at(part, places[name] if places else None) for name, part in elsewhere.items()}
        for layer in self._layers:
            if layer.found is not None:
                found[layer.name] = found[layer.name] + layer.found if layer.name in found else layer.found
        return value, {
            name: found[name] if places else found[name].view(weight.shape) for name, weight in self._weights.items()
        }

    def _pass(self) -> tuple[float, dict[str, Tensor]]:
        """Forward and backward: R, and the derivatives of what is not multiplied by one of the layers."""
        outputs = self._twin(self._ones.requires_grad_())
        if not isinstance(outputs, Tensor):
            raise ValueError(f"the flow ends in one tensor of outputs, got {type(outputs).__name__}; wrap the model")
        flow = outputs.sum()
        value = float(flow.detach())
        if value == 0.0:
            raise NoFlowError("no path from input to output is left; ask for less sparsity, or for more rounds")
        if not 0.0 < value < float("inf"):
            raise ValueError(
                f"the synaptic flow is {value}; check the weights for NaN and for very large numbers, and whether the "
                "model subtracts: then it has none, take another criterion"
            )
        _, *gradients = torch.autograd.grad(flow, [self._ones, *self._weights.values()], allow_unused=True)
        found = {name: part for name, part in zip(self._weights, gradients, strict=True) if part is not None}
        by_layer = {layer.name for layer in self._layers if layer.found is not None}
        if unused := [name for name in self._weights if name not in found and name not in by_layer]:
            raise ValueError(f"the flow does not pass through {', '.join(unused)}; exclude it")
        return value, found


_BY_INPUTS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def _scaled(module: nn.LayerNorm | nn.RMSNorm | nn.GroupNorm, inputs: Tensor) -> Tensor:
    factors: Tensor | None = module.weight
    if factors is None:
        return inputs
    return inputs * (factors.view(-1, *[1] * (inputs.dim() - 2)) if isinstance(module, nn.GroupNorm) else factors)


def _make_positive_(twin: nn.Module) -> None:
    """Absolute values for factors, zero for what is added."""
    with torch.no_grad():
        for module in twin.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.zero_() if name.startswith("bias") else parameter.abs_()
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.zero_()
            if isinstance(module, _BY_INPUTS):
                # Of inputs that are all alike nothing would be left.
                module.forward = partial(_scaled, weakref.proxy(module))  # type: ignore[method-assign, arg-type]
