"""Who reads the outputs of a layer: found by watching one forward pass, never by the order of modules."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gossamer.nn import SparseLinear
from gossamer.statistics.batches import call, device_of, read, tensors
from gossamer.statistics.passing import POOLING, passed, same_along
from gossamer.statistics.untouched import untouched

# Where a function takes its weight.
_LINEAR = {F.linear: 1, F.conv1d: 1, F.conv2d: 1, F.conv3d: 1}
_NORMS = {F.batch_norm: 3, torch.batch_norm: 1}
_SPATIAL = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
_OWNERS = (nn.Linear, SparseLinear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Mark(NamedTuple):
    """A tensor that holds outputs of a layer."""

    tensor: Tensor
    name: str
    units: Tensor


class _Reader(NamedTuple):
    """What takes the outputs of a layer: its weight, and the unit that each of its inputs comes from."""

    what: str
    weight: Tensor
    units: Tensor


# What is no reader goes by its name alone.
_Use = _Reader | str


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
    for name, reader in _readers(model, owners, data, _NORMS, "one batch normalisation").items():
        scale = _by_unit(name, reader, owners[name], axis=0)
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
                f"the units of {name}, a convolution of {owner.groups} groups, read different inputs, so none can stand "
                "in for another; exclude it"
            )
    found = _readers(model, owners, data, _LINEAR, "one linear layer or convolution of one group")
    return {name: _by_unit(name, reader, owners[name], axis=1) for name, reader in found.items()}


def _readers(
    model: nn.Module, owners: Mapping[str, nn.Module], data: Iterable[Any], readers: Mapping[Any, int], asked: str
) -> dict[str, _Reader]:
    for name, owner in owners.items():
        if not isinstance(owner, _OWNERS):
            raise ValueError(f"{name} is of {type(owner).__name__}, whose outputs cannot be followed; exclude it")
    batch = next(read(data, device=device_of(model), labelled=False))
    with untouched(model), torch.no_grad():
        uses = _watched(model, owners, batch.inputs, readers)
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


def _only(uses: list[_Use]) -> _Reader | None:
    """The reader, if all uses are the same: one weight that reads the units in one order."""
    found = None
    for use in uses:
        if isinstance(use, str):
            return None
        if found is not None and not (use.weight is found.weight and torch.equal(use.units, found.units)):
            return None
        found = use
    return found


def _by_unit(name: str, reader: _Reader, owner: nn.Module, *, axis: int) -> Tensor:
    """The reader's weight with its inputs grouped by the unit that they come from."""
    places = reader.units.bincount(minlength=_num_units(owner))
    if not bool((places == places[0]).all()):
        raise ValueError(f"{reader.what} reads some units of {name} more often than others; exclude it")
    weight = reader.weight.detach().index_select(axis, reader.units.argsort(stable=True))
    return weight if int(places[0]) == 1 else weight.unflatten(axis, (len(places), -1))


def _num_units(owner: Any) -> int:
    return int(owner.out_features if isinstance(owner, (nn.Linear, SparseLinear)) else owner.out_channels)


class _Watch(TorchFunctionMode):
    """Sees every function of torch that the forward pass calls, and follows the layers' outputs through them."""

    def __init__(self, readers: Mapping[Any, int]) -> None:
        super().__init__()
        self.readers = readers
        self.uses: dict[str, list[_Use]] = {}
        self.marks: dict[int, _Mark] = {}

    def start(self, name: str, owner: Any, value: Tensor) -> None:
        self.uses.setdefault(name, [])
        axis = value.dim() - 1 - len(getattr(owner, "kernel_size", ()))
        shape = [1] * value.dim()
        shape[axis] = value.shape[axis]
        self._mark(name, value, torch.arange(value.shape[axis], device=value.device).view(shape).expand(value.shape))

    def end(self, value: Any, what: str) -> None:
        """Note that outputs of layers go where they cannot be followed."""
        for tensor in tensors(value):
            # One such use is enough to refuse: what else becomes of the tensor is of no interest.
            mark = self.marks.pop(id(tensor), None)
            if mark is not None:
                self.uses[mark.name].append(what)

    def _mark(self, name: str, value: Tensor, units: Tensor) -> None:
        # The tensor is held, so that its id stays its own.
        self.marks[id(value)] = _Mark(value, name, units)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        marked = [self.marks[id(tensor)] for tensor in tensors([args, given]) if id(tensor) in self.marks]
        # The mode is off inside: a function that is made of others is seen once.
        result = func(*args, **given)
        if marked and any(True for _ in tensors(result)):
            self._follow(func, args, given, result, marked)
        return result

    def _follow(self, func: Any, args: Any, given: Any, result: Any, marked: list[_Mark]) -> None:
        mark = marked[0]
        alone = len(marked) == 1 and bool(args) and args[0] is mark.tensor
        if alone and func in self.readers:
            self.uses[mark.name].append(self._read(func, args, given, mark))
            return
        units = passed(func, mark.units, args, given, result) if alone else None
        if units is None:
            self.end([args, given], "pooling" if func in POOLING else str(getattr(func, "__name__", func)))
        else:
            self._mark(mark.name, result, units)

    def _read(self, func: Any, args: Any, given: Any, mark: _Mark) -> _Use:
        what, place = str(func.__name__), self.readers[func]
        groups = args[6] if len(args) > 6 else given.get("groups", 1)
        if func in _SPATIAL and groups > 1:
            return f"{what} of {groups} groups"
        weight = args[place] if len(args) > place else given.get("weight")
        if weight is None:
            return f"{what} without factors"
        axis = 1 if func in _NORMS else mark.units.dim() - 1 - _SPATIAL.get(func, 0)
        row = same_along(mark.units, [other for other in range(mark.units.dim()) if other != axis])
        return f"{what} along another axis" if row is None else _Reader(what, weight, row.flatten())


def _watched(
    model: nn.Module, owners: Mapping[str, nn.Module], inputs: Any, readers: Mapping[Any, int]
) -> dict[str, list[_Use]]:
    watch = _Watch(readers)
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: watch.start(name, module, output))
        for name, module in owners.items()
    ]
    # What a truly sparse layer computes is no function of torch.
    handles += [
        module.register_forward_pre_hook(lambda module, args: watch.end(args, "a truly sparse layer"))
        for module in model.modules()
        if isinstance(module, SparseLinear)
    ]
    try:
        with watch:
            outputs = call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    watch.end(outputs, "the model's outputs")
    return watch.uses
