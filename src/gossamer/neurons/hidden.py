"""Hidden layers: two linear layers with only element-wise functions between, found by tracing the model."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gossamer.nn import AllReLU, Dropout, ReLU, SparseLinear
from gossamer.nn.counterparts import SPARSE_LAYERS, SPARSE_RECURRENT
from gossamer.weights import MaskedWeight, SparseWeight

View = MaskedWeight | SparseWeight
Linear = nn.Linear | SparseLinear

# Between two linear layers these leave neuron j where it is and treat it alone.
_MODULES = (
    AllReLU,
    Dropout,
    ReLU,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Dropout,
    nn.Identity,
)
_FUNCTIONS = (
    F.relu,
    F.leaky_relu,
    F.elu,
    F.gelu,
    F.silu,
    F.sigmoid,
    F.tanh,
    F.dropout,
    torch.relu,
    torch.sigmoid,
    torch.tanh,
)
_METHODS = ("relu", "sigmoid", "tanh", "contiguous")


@dataclass(frozen=True, kw_only=True, eq=False)
class HiddenLayer:
    """A hidden layer and the one layer that reads it.

    Attributes:
        weight: leads into the neurons, shape [units, in].
        reader: takes their outputs, shape [out, units].
        layer, reader_layer: the modules of the two.
        between: functions from the one to the other, each of one vector [units] in evaluation mode.
    """

    weight: View
    reader: View
    layer: Linear
    reader_layer: Linear
    between: tuple[tuple[fx.Node, nn.Module | None], ...]

    @property
    def num_units(self) -> int:
        """How many neurons the layer has now."""
        return self.weight.shape[0]

    def constants(self) -> Tensor:
        """Return what each neuron would pass on if nothing came in: shape [units], as without dropout."""
        bias = self.layer.bias
        values = self.weight.values().new_zeros(self.num_units) if bias is None else bias.detach().clone()
        with torch.no_grad():
            for node, module in self.between:
                values = _apply(node, module, values)
        return values


def find_hidden(model: nn.Module, weights: Sequence[View]) -> list[HiddenLayer]:
    """Return the hidden layers of which it is sure that one other layer alone reads them.

    Only element-wise modules and functions may stand between the two, and each of the two layers is used once and
    shares nothing. A model that cannot be traced, because its forward pass depends on values, has none.

    Args:
        model: what the weights are of.
        weights: from `weights.prunable(model)`.

    Example:
        >>> from gossamer.weights import prunable
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [(hidden.weight.name, hidden.reader.name) for hidden in find_hidden(model, prunable(model))]
        [('0.weight', '2.weight')]
    """
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    nodes: list[fx.Node] = []
    # A forward pass may do anything under the tracer; then nothing is known.
    with contextlib.suppress(Exception):
        nodes = list(_Tracer().trace(model).nodes)
    search = _Search(model, weights, nodes)
    return [hidden for node in nodes if (hidden := search.from_node(node))]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = isinstance(m, (*SPARSE_LAYERS, *SPARSE_RECURRENT, AllReLU, Dropout, ReLU))
        return own or super().is_leaf_module(m, module_qualified_name)


class _Search:
    """A traced model, and which of its parameters are used more than once."""

    def __init__(self, model: nn.Module, weights: Sequence[View], nodes: Sequence[fx.Node]) -> None:
        self.modules: Mapping[str, nn.Module] = dict(model.named_modules())
        self.views = {id(weight.parameter): weight for weight in weights}
        targets = [str(node.target) for node in nodes if node.op == "call_module"]
        uses = [parameter for name in targets for parameter in _own(self.modules.get(name))]
        names = {str(node.target) for node in nodes if node.op == "get_attr"}
        uses += [own for name, own in model.named_parameters(remove_duplicate=False) if name in names]
        self.uses = Counter(map(id, uses))

    def from_node(self, node: fx.Node) -> HiddenLayer | None:
        """The hidden layer that a node computes, if it is one."""
        weight, layer = self._linear(node)
        between: list[tuple[fx.Node, nn.Module | None]] = []
        while layer is not None and len(node.users) == 1:
            node = next(iter(node.users))
            reader, reader_layer = self._linear(node)
            if weight is not None and reader is not None and reader_layer is not None:
                return HiddenLayer(
                    weight=weight, reader=reader, layer=layer, reader_layer=reader_layer, between=tuple(between)
                )
            if not self._passes_on(node):
                return None
            between.append((node, self.modules.get(str(node.target)) if node.op == "call_module" else None))
        return None

    def _linear(self, node: fx.Node) -> tuple[View | None, Linear | None]:
        """The layer that a node applies and the view of its weight, if it is linear and nothing else uses it."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, (SparseLinear, nn.Linear)) or any(self.uses[id(own)] > 1 for own in _own(module)):
            return None, None
        # A parametrization computes it.
        bias: Any = module.bias
        if not isinstance(bias, nn.Parameter | None):
            return None, None
        view = self.views.get(id(module.values if isinstance(module, SparseLinear) else module.weight))
        return (None, None) if view is None else (view, module)

    def _passes_on(self, node: fx.Node) -> bool:
        known = {
            "call_module": isinstance(self.modules.get(str(node.target)), _MODULES),
            "call_function": node.target in _FUNCTIONS,
            "call_method": node.target in _METHODS,
        }
        return known.get(node.op, False) and len(node.all_input_nodes) == 1


def _own(module: nn.Module | None) -> list[nn.Parameter]:
    return [] if module is None else list(module.parameters())


def _apply(node: fx.Node, module: nn.Module | None, values: Tensor) -> Tensor:
    """Apply a function of the chain as in evaluation mode."""
    if node.target is F.dropout:
        return values
    given: Any = fx.map_arg((node.args, node.kwargs), lambda _: values.clone())
    args, kwargs = given
    if module is None:
        # A method goes by its name.
        call: Any = getattr(args[0], node.target) if isinstance(node.target, str) else node.target
        result: Tensor = call(*(args[1:] if isinstance(node.target, str) else args), **kwargs)
        return result
    training, module.training = module.training, False
    try:
        # Not the module itself: hooks of others have no business here.
        passed: Tensor = module.forward(*args, **kwargs)
    finally:
        module.training = training
    return passed
