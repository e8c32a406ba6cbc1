"""Which weight reads the outputs of which: found by tracing the model, without data."""

import contextlib
from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.nn import functional as F

from gossamer.nn import AllReLU, Dropout, ReLU, SparseLinear
from gossamer.nn.counterparts import SPARSE_LAYERS, SPARSE_RECURRENT
from gossamer.weights import Weight

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


def find_readers(model: nn.Module, weights: Sequence[Weight]) -> dict[str, str]:
    """Return, for each weight whose outputs surely go to one other weight alone, the name of that weight.

    Only element-wise modules and functions may stand between the two, and each of them is used once. A model that
    cannot be traced, because its forward pass depends on values, has no known readers.

    Args:
        model: what the weights are of.
        weights: from `weights.prunable(model)`.

    Example:
        >>> from gossamer.weights import prunable
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> find_readers(model, prunable(model))
        {'0.weight': '2.weight'}
    """
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    names = {id(weight.parameter): weight.name for weight in weights}
    modules = dict(model.named_modules())
    nodes: list[fx.Node] = []
    # A forward pass may do anything under the tracer; then nothing is known.
    with contextlib.suppress(Exception):
        nodes = list(_Tracer().trace(model).nodes)
    called = [name for node in nodes if (name := _weight_of(node, modules, names))]
    readers = {}
    for node in nodes:
        source = _weight_of(node, modules, names)
        reader = _reader_of(node, modules, names) if source else None
        if source and reader and called.count(source) == called.count(reader) == 1:
            readers[source] = reader
    return readers


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = isinstance(m, (*SPARSE_LAYERS, *SPARSE_RECURRENT, AllReLU, Dropout, ReLU))
        return own or super().is_leaf_module(m, module_qualified_name)


def _weight_of(node: fx.Node, modules: dict[str, nn.Module], names: dict[int, str]) -> str | None:
    """The name of the weight that a node applies, if it is a linear layer."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, SparseLinear):
        return names.get(id(module.values))
    return names.get(id(module.weight)) if isinstance(module, nn.Linear) else None


def _reader_of(node: fx.Node, modules: dict[str, nn.Module], names: dict[int, str]) -> str | None:
    """The weight at the end of a chain of element-wise nodes with one user each."""
    users = list(node.users)
    if len(users) != 1:
        return None
    user = users[0]
    if name := _weight_of(user, modules, names):
        return name
    passes_on = {
        "call_module": isinstance(modules.get(str(user.target)), _MODULES),
        "call_function": user.target in _FUNCTIONS,
        "call_method": user.target in _METHODS,
    }
    return _reader_of(user, modules, names) if passes_on.get(user.op) else None
