"""The layers of a model that have more than one storage, and which of them are open to a change."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from gossamer import topology
from gossamer.acceleration.calls import Calls
from gossamer.acceleration.kinds import KINDS, Kind, kind_of
from gossamer.counts import sparsity_of

_DTYPES = (torch.float32, torch.float64)


class Subject(NamedTuple):
    """One layer.

    Attributes:
        name: in the model.
        layer: of the copy that is measured.
        kind: its row in `KINDS`.
        given: the storage it has: dense or csr.
        calls: how the example has it called.
        sparse: the layer as a truly sparse one; None where `reason` says why it stays as it is.
        sparsity: fraction of its weights that do not exist or are zero.
        reason: why it is left as it is; empty where it is not.
    """

    name: str
    layer: nn.Module
    kind: Kind
    given: str
    calls: Calls
    sparse: Any
    sparsity: float
    reason: str

    def describe(self) -> dict[str, Any]:
        """Return all that its times depend on beside the machine, as JSON takes it."""
        calls = [[list(call.shape), list(call.stride), str(call.dtype), times] for call, times in self.calls.items()]
        places = topology.fingerprint(self.sparse.topology)
        return {"name": self.name, "given": self.given, "topology": places, "calls": calls, "layer": repr(self.layer)}


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that have a kind by name, one that has several names by the first."""
    return {name: module for name, module in model.named_modules() if kind_of(module)}


def subject(model: nn.Module, name: str, layer: nn.Module, calls: Calls) -> Subject:
    """Look at one layer and make it truly sparse if it can change.

    Args:
        model: that the layer is in.
        name: of the layer.
        layer: one of `layers_of(model)`.
        calls: what it is called with.

    Raises:
        TypeError: a layer of no kind.
    """
    kind, weight = kind_of(layer), _weight(layer)
    if kind is None:
        raise TypeError(
            f"{type(layer).__name__} has one storage only; give a layer of {[each.dense for each in KINDS]}"
        )
    given = "csr" if type(layer) is kind.sparse else "dense"
    sparsity = 0.0 if weight is None else _sparsity(layer, weight)
    reason = _unfit(layer, weight, calls) or _sharing(model, layer)
    if not reason and given == "dense" and sparsity == 0:
        reason = "none of its weights is zero"
    if not reason and getattr(layer, "padding_mode", "zeros") != "zeros":
        reason = "it pads with something else than zeros, as no truly sparse layer does"
    sparse = None
    if not reason:
        sparse = layer if given == "csr" else kind.sparse.from_dense(layer)
    return Subject(name, layer, kind, given, calls, sparse, sparsity, reason)


def _unfit(layer: nn.Module, weight: nn.Parameter | None, calls: Calls) -> str:
    """Why nothing else can stand in a layer's place, or nothing."""
    parts: Mapping[str, Any] = vars(layer)
    if parts["_forward_pre_hooks"] or parts["_forward_hooks"] or parts["_backward_hooks"]:
        return "it has hooks, which another layer would not have"
    if weight is None:
        return "its weight is no parameter of its own"
    if not calls:
        return "the example does not call it"
    if any(call.by_name for call in calls):
        return "its input is given by name, and other layers have other names"
    if weight.dtype not in _DTYPES:
        return f"its weights are {_short(weight.dtype)}; float32 and float64 can be held otherwise"
    others = [call.dtype for call in calls if call.dtype != weight.dtype]
    return f"it is called with {_short(others[0])}, its weights are {_short(weight.dtype)}" if others else ""


def _sharing(model: nn.Module, layer: nn.Module) -> str:
    own = {id(parameter) for parameter in layer.parameters(recurse=False)}
    for name, module in model.named_modules():
        if module is not layer and any(id(part) in own for part in module._parameters.values()):
            return f"it shares a parameter with {name or 'the model'}"
    return ""


def _sparsity(layer: nn.Module, weight: nn.Parameter) -> float:
    if "values" in layer._parameters:
        return float(layer.sparsity)  # type: ignore[arg-type]
    return sparsity_of(int(weight.count_nonzero()), weight.numel())


def _weight(layer: nn.Module) -> nn.Parameter | None:
    return layer._parameters.get("values", layer._parameters.get("weight"))


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
