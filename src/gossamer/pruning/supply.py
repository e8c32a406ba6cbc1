"""Supplies what a criterion asks for by the names of its arguments."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from gossamer import statistics
from gossamer.pruning.active import Active
from gossamer.weights import MaskedWeight, Weight

# From gradients of a loss; from what goes into a layer; from what its units do.
_FROM_LOSS = ("grad", "squared_grad", "sample_grads", "hessian_grad", "hessian_diagonal", "output_sensitivity")
_FROM_INPUTS = ("input_norm", "input_gram")
_FROM_UNITS = (
    "zero_fraction",
    "activation_mean",
    "activation_magnitude",
    "activation_energy",
    "activation_variance",
    "activation_covariance",
)
_FROM_GATES = ("gate_grad", "activation_products")
_FROM_READERS = ("scale", "outgoing")
KNOWN = (
    *("weight", "first_weight", *_FROM_LOSS, *_FROM_INPUTS, *_FROM_UNITS, *_FROM_GATES, *_FROM_READERS),
    *("gate_grads", "flow_grad", "generator"),
)


def wanted(rule: Callable[..., Any], *, settings: Iterable[str] = ()) -> list[str]:
    """Return the names of the arguments that a criterion needs to be given.

    Args:
        rule: a criterion or a solver; arguments with a default keep it.
        settings: names that its caller gives by itself.

    Raises:
        ValueError: it needs something that is not known.
    """
    settings = tuple(settings)
    parameters = inspect.signature(rule).parameters.values()
    open_names = [one.name for one in parameters if one.default is one.empty or one.name == "generator"]
    names = [name for name in open_names if name not in settings]
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise ValueError(
            f"{name_of(rule)} asks for {', '.join(unknown)}; known are {', '.join(KNOWN)}: "
            "give anything else by functools.partial"
        )
    return names


def name_of(rule: Any) -> str:
    """Return what an error calls a function or a partial of it."""
    return str(getattr(getattr(rule, "func", rule), "__name__", type(rule).__name__))


@final
class Supply:
    """Measures what is asked for, on a model that it leaves as it is.

    Args:
        model: the model to prune.
        owners: the module that holds each weight, by name.
        data: batches of (inputs, targets), read once for each group of statistics; None where nothing needs it.
        loss_fn: (outputs, targets) -> scalar.
        first: values at an earlier step by name, as a rule from `model.state_dict()`.
        generator: source of randomness, on the CPU.
        num_probes: of the diagonal of the Hessian.
    """

    def __init__(
        self,
        model: nn.Module,
        owners: Mapping[str, nn.Module],
        *,
        data: Iterable[Any] | None,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        first: Mapping[str, Tensor] | None,
        generator: torch.Generator | None,
        num_probes: int = 128,
    ) -> None:
        self._model, self._owners = model, owners
        self._data, self._loss_fn, self._first, self._generator = data, loss_fn, first, generator
        self._num_probes = num_probes
        self._flow: statistics.Flow | None = None
        self._flow_shapes: dict[str, torch.Size] = {}

    def gather(self, names: Iterable[str], weights: Iterable[Weight]) -> dict[str, dict[str, Any]]:
        """Return what was asked for, for each weight: weight name -> argument name -> tensor.

        Raises:
            ValueError: data, a loss or something else that is needed was not given, or cannot be measured.
        """
        names, weights = list(names), list(weights)
        tensors = {weight.name: weight.parameter for weight in weights}
        parts: dict[str, Mapping[str, Any]] = {}
        if "weight" in names:
            parts["weight"] = {weight.name: _values(weight) for weight in weights}
        for name in names:
            if name not in parts:
                parts |= self._measure(name, names, tensors)
        return {weight: {name: parts[name][weight] for name in names} for weight in tensors}

    def gather_active(self, names: Iterable[str], parts: Iterable[Active]) -> list[dict[str, Any]]:
        """Return what was asked for, for each weight the vectors of its active entries: argument name -> vector.

        Raises:
            ValueError: as of `gather`.
        """
        names, parts = list(names), list(parts)
        found = self.gather([name for name in names if name != "flow_grad"], [part.weight for part in parts])
        given = [{name: _entries(part, tensor) for name, tensor in found[part.weight.name].items()} for part in parts]
        if "flow_grad" in names:
            tensors = {part.weight.name: part.weight.parameter for part in parts}
            flow = self._flow_gradients(tensors, parts)
            for own, part in zip(given, parts, strict=True):
                own["flow_grad"] = flow[part.weight.name]
        return given

    def _measure(self, name: str, names: list[str], tensors: Mapping[str, Tensor]) -> dict[str, Mapping[str, Any]]:
        """Measure one statistic, and with it all that the same pass over the data gives."""
        owners = {weight: self._owners[weight] for weight in tensors}
        if name == "generator":
            return {name: dict.fromkeys(tensors, self._given(self._generator, "generator"))}
        if name == "first_weight":
            return {name: self._first_values(tensors)}
        if name == "flow_grad":
            return {name: self._flow_gradients(tensors)}
        if name in _FROM_INPUTS:
            return self._input_statistics(owners, gram="input_gram" in names)
        if name in _FROM_UNITS:
            return _unit_statistics(statistics.unit_moments(self._model, owners, self._given(self._data, "data")))
        if name in _FROM_GATES:
            return self._gate_statistics(owners)
        if name in _FROM_READERS:
            look = statistics.norm_scales if name == "scale" else statistics.outgoing_weights
            return {name: look(self._model, owners, self._given(self._data, "data"))}
        return {name: self._gradients(name, tensors)}

    def _gradients(self, name: str, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        data = self._given(self._data, "data")
        if name == "output_sensitivity":
            return statistics.output_sensitivity(self._model, tensors, data)
        loss_fn = self._given(self._loss_fn, "loss_fn")
        if name == "hessian_diagonal":
            generator = self._given(self._generator, "generator")
            return statistics.hessian_diagonal(
                self._model, tensors, data, loss_fn, generator=generator, num_probes=self._num_probes
            )
        if name == "gate_grads":
            return statistics.head_gates(self._model, tensors, data, loss_fn)
        measure = {
            "grad": statistics.mean_gradient,
            "squared_grad": statistics.squared_gradient,
            "sample_grads": statistics.sample_gradients,
            "hessian_grad": statistics.hessian_gradient,
        }[name]
        return measure(self._model, tensors, data, loss_fn)

    def _input_statistics(self, owners: Mapping[str, nn.Module], *, gram: bool) -> dict[str, Mapping[str, Any]]:
        moments = statistics.input_moments(self._model, owners, self._given(self._data, "data"), gram=gram)
        found: dict[str, Mapping[str, Any]] = {
            "input_norm": {weight: part.square.sqrt() for weight, part in moments.items()}
        }
        if gram:
            found["input_gram"] = {
                weight: part.gram / part.num_rows for weight, part in moments.items() if part.gram is not None
            }
        return found

    def _gate_statistics(self, owners: Mapping[str, nn.Module]) -> dict[str, Mapping[str, Any]]:
        data, loss_fn = self._given(self._data, "data"), self._given(self._loss_fn, "loss_fn")
        gates = statistics.unit_gates(self._model, owners, data, loss_fn)
        # The criterion takes norms within a layer: the number of positions of a sample cancels.
        return {
            "activation_products": gates,
            "gate_grad": {weight: samples.mean(0) for weight, samples in gates.items()},
        }

    def _first_values(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = self._given(self._first, "first")
        for name, tensor in tensors.items():
            if name not in first or first[name].shape != tensor.shape:
                raise ValueError(f"first holds no {name} of shape {tuple(tensor.shape)}; pass the model's state_dict()")
        return {name: first[name].to(tensor.device) for name, tensor in tensors.items()}

    def _flow_gradients(
        self, tensors: Mapping[str, Tensor], parts: Iterable[Active] | None = None
    ) -> dict[str, Tensor]:
        """Whole tensors, or of each part the active entries."""
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if self._flow is None or shapes != self._flow_shapes:
            # Truly sparse weights change their shape as they are cut.
            example = next(iter(self._given(self._data, "data")), None)
            if example is None:
                raise ValueError("the data gave no batch, of which the flow needs the shape; pass a list of batches")
            example = example[0] if isinstance(example, (tuple, list)) else example
            self._flow, self._flow_shapes = statistics.Flow(self._model, tensors, example=example), shapes
        elif parts is None:
            self._flow.set_(tensors)
        for part in parts or ():
            if part.removed is not None:
                self._flow.remove_(part.weight.name, part.removed)
        return self._flow.measure(None if parts is None else {part.weight.name: part.places for part in parts})[1]

    def _given(self, value: Any, what: str) -> Any:
        if value is None:
            raise ValueError(f"the criterion needs {what}, and none was given; pass {what}=")
        return value


def _values(weight: Weight) -> Tensor:
    """What is there, with what may return."""
    if isinstance(weight, MaskedWeight) and weight.latent is not None:
        return weight.dense_values()
    return weight.parameter.detach()


def _entries(part: Active, value: Any) -> Any:
    return part.of(value) if isinstance(value, Tensor) else value


def _unit_statistics(moments: Mapping[str, statistics.UnitMoments]) -> dict[str, Mapping[str, Any]]:
    return {
        "zero_fraction": {weight: part.zero_fraction for weight, part in moments.items()},
        "activation_mean": {weight: part.mean for weight, part in moments.items()},
        "activation_magnitude": {weight: part.magnitude for weight, part in moments.items()},
        "activation_energy": {weight: part.energy for weight, part in moments.items()},
        "activation_variance": {weight: part.covariance.diagonal() for weight, part in moments.items()},
        "activation_covariance": {weight: part.covariance for weight, part in moments.items()},
    }
