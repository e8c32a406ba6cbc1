"""Synaptic flow: what a vector of ones would bring from the inputs to the outputs if every weight were positive."""

import copy
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn


class NoFlowError(ValueError):
    """No path leads from the inputs to the outputs."""


@final
class Flow:
    """The synaptic flow R of a model and its derivatives, in float64.

    R = 1^T |W_L| ... |W_1| 1

    It is measured on a copy of the model: every factor by its absolute value, biases, shifts and running means zero,
    normalisations as in evaluation mode. Nothing but the shape of an input is needed, no data.

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
        # What is copied apart: the factors that stay; weights are filled in at each measurement.
        self._twin = copy.deepcopy(model).double().eval()
        twins = dict(zip(model.parameters(), self._twin.parameters(), strict=True))
        self._weights = {places[id(own)]: twin for own, twin in twins.items() if id(own) in places}
        self._ones = torch.ones(1, *example.shape[1:], dtype=torch.float64, device=example.device)
        _make_positive_(self._twin)
        for twin in twins.values():
            twin.requires_grad_(any(twin is weight for weight in self._weights.values()))

    def measure(self, weights: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """Return R and its derivative at |w| for each weight.

        Args:
            weights: values by name, zero where a weight is absent.

        Returns:
            R, and name -> dR/d|w|, shape of the weight, float64, never negative.

        Raises:
            NoFlowError: R is zero: no path from input to output is left.
            ValueError: R is not finite, or does not depend on a weight.
        """
        with torch.no_grad():
            for name, own in self._weights.items():
                own.copy_(weights[name]).abs_()
        outputs = self._twin(self._ones)
        if not isinstance(outputs, Tensor):
            raise ValueError(f"the flow ends in one tensor of outputs, got {type(outputs).__name__}; wrap the model")
        flow = outputs.sum()
        value = float(flow.detach())
        if value == 0.0:
            raise NoFlowError("no path from input to output is left; ask for less sparsity, or for more rounds")
        if not value < float("inf"):
            raise ValueError(f"the synaptic flow is {value}; check the weights for NaN and for very large numbers")
        found = torch.autograd.grad(flow, list(self._weights.values()), allow_unused=True)
        unused = [name for name, gradient in zip(self._weights, found, strict=True) if gradient is None]
        if unused:
            raise ValueError(f"the flow does not pass through {', '.join(unused)}; exclude it")
        return value, {name: part for name, part in zip(self._weights, found, strict=True) if part is not None}


def _make_positive_(twin: nn.Module) -> None:
    """Absolute values for factors, zero for what is added."""
    with torch.no_grad():
        for module in twin.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.zero_() if name.startswith("bias") else parameter.abs_()
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.zero_()
