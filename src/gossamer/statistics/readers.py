"""Who reads the outputs of a layer: found by watching one forward pass, never by the order of modules."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.nn import SparseConv1d, SparseConv2d, SparseLinear
from gossamer.statistics.batches import device_of, read
from gossamer.statistics.untouched import untouched
from gossamer.statistics.watch import LAYERS, NORMS, Reader, Use, watched

_OWNERS = (nn.Linear, SparseLinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, SparseConv1d, SparseConv2d)


def norm_scales(model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any]) -> dict[str, Tensor]:
    """Return the factors of the batch normalisation that reads each layer's outputs.

    Between the two there may be what keeps each unit to itself: activation functions, dropout, pooling.

    Args:
        model: watched in evaluation mode, left as it is; any forward pass.
        owners: module of each weight by name, Linear or Conv1d to Conv3d.
        data: batches, of which the first is used; targets are not looked at.

    Returns:
        Name -> factors, shape [units].

    Raises:
        ValueError: the forward pass does not call a layer, or not exactly one batch normalisation reads all of its
            outputs and nothing else does, or that has no factors, or several for one unit.

    Cost: one forward pass over one batch.
    """
    found = {}
    for name, reader in _readers(model, owners, data, NORMS, "one batch normalisation").items():
        scale = _by_unit(reader, owners[name], axis=0)
        if scale.dim() != 1:
            raise ValueError(f"the normalisation behind {name} has several factors for each of its units; exclude it")
        found[name] = scale
    return found


def outgoing_weights(model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any]) -> dict[str, Tensor]:
    """Return the weight of the layer that reads each layer's outputs, its inputs in the order of the units.

    Between the two there may be what keeps each unit to itself: activation functions, normalisation over the batch,
    dropout, pooling, and any change of shape. Where the reader has several inputs for each unit, as behind a flattened
    convolution, they lie along a third axis.

    Args:
        model: watched in evaluation mode, left as it is; any forward pass.
        owners: module of each weight by name, Linear or Conv1d to Conv3d.
        data: batches, of which the first is used; targets are not looked at.

    Returns:
        Name -> weight, shape [out2, units, ...].

    Raises:
        ValueError: the forward pass does not call a layer, not exactly one linear layer or convolution of one group
            reads all of its outputs and nothing else does, or its own units read different inputs, in several groups.

    Cost: one forward pass over one batch.
    """
    for name, owner in owners.items():
        if getattr(owner, "groups", 1) > 1:
            raise ValueError(
                f"the units of {name}, a convolution of {owner.groups} groups, read different inputs, so none can "
                "stand in for another; exclude it"
            )
    found = _readers(model, owners, data, LAYERS, "one linear layer or convolution of one group")
    return {name: _by_unit(reader, owners[name], axis=1) for name, reader in found.items()}


def _readers(
    model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any], readers: Mapping[Any, int], asked: str
) -> dict[str, Reader]:
    for name, owner in owners.items():
        if not isinstance(owner, _OWNERS):
            raise ValueError(f"{name} is of {type(owner).__name__}, whose outputs cannot be followed; exclude it")
    batch = next(read(data, device=device_of(model), labelled=False))
    with untouched(model), torch.no_grad():
        uses = watched(model, owners, batch.inputs, readers)
    found = {}
    for name in owners:
        if name not in uses:
            raise ValueError(f"the model's forward pass does not call the layer of {name}; exclude it")
        reader = _only(uses[name])
        if reader is None:
            seen = dict.fromkeys(use if isinstance(use, str) else use.what for use in uses[name])
            listed = ", ".join(seen) or "nothing that can be followed"
            raise ValueError(f"the outputs of {name} must be read by {asked} alone, got {listed}; exclude it")
        found[name] = reader
    return found


def _only(uses: list[Use]) -> Reader | None:
    """The reader, if all uses are the same: one weight that reads the units in one order."""
    found = None
    for use in uses:
        if isinstance(use, str):
            return None
        if found is not None and not (use.weight is found.weight and torch.equal(use.units, found.units)):
            return None
        found = use
    return found


def _by_unit(reader: Reader, owner: nn.Module, *, axis: int) -> Tensor:
    """The reader's weight with its inputs grouped by the unit that they come from."""
    num_units = _num_units(owner)
    weight = reader.weight.detach().index_select(axis, reader.units.argsort(stable=True))
    # What is followed never repeats one unit more often than another.
    return weight if len(reader.units) == num_units else weight.unflatten(axis, (num_units, -1))


def _num_units(owner: Any) -> int:
    return int(owner.out_features if isinstance(owner, (nn.Linear, SparseLinear)) else owner.out_channels)
