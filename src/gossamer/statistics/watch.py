"""One forward pass, watched: what becomes of the outputs of its layers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gossamer.nn.counterparts import SPARSE_LAYERS
from gossamer.statistics.batches import call, tensors
from gossamer.statistics.passing import POOLING, passed, same_along

# Functions that may read a layer's outputs, and where they take its weight.
LAYERS = {F.linear: 1, F.conv1d: 1, F.conv2d: 1, F.conv3d: 1}
NORMS = {F.batch_norm: 3, torch.batch_norm: 1}
_SPATIAL = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}


class _Mark(NamedTuple):
    """A tensor that holds outputs of a layer."""

    tensor: Tensor
    name: str
    units: Tensor


class Reader(NamedTuple):
    """What takes the outputs of a layer: its weight, and the unit that each of its inputs comes from."""

    what: str
    weight: Tensor
    units: Tensor


# What is no reader goes by its name alone.
Use = Reader | str


class _Watch(TorchFunctionMode):
    """Sees every function of torch that the forward pass calls, and follows the layers' outputs through them."""

    def __init__(self, readers: Mapping[Any, int]) -> None:
        super().__init__()
        self.readers = readers
        self.uses: dict[str, list[Use]] = {}
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

    def _read(self, func: Any, args: Any, given: Any, mark: _Mark) -> Use:
        what, place = str(func.__name__), self.readers[func]
        groups = args[6] if len(args) > 6 else given.get("groups", 1)
        if func in _SPATIAL and groups > 1:
            return f"{what} of {groups} groups"
        weight = args[place] if len(args) > place else given.get("weight")
        if weight is None:
            return f"{what} without factors"
        axis = 1 if func in NORMS else mark.units.dim() - 1 - _SPATIAL.get(func, 0)
        row = same_along(mark.units, [other for other in range(mark.units.dim()) if other != axis])
        return f"{what} along another axis" if row is None else Reader(what, weight, row.flatten())


def watched(
    model: nn.Module, owners: Mapping[str, nn.Module], inputs: Any, readers: Mapping[Any, int]
) -> dict[str, list[Use]]:
    """Run the model once and return what takes the outputs of each layer that it calls.

    Args:
        model: any forward pass; nothing is traced.
        owners: layers by name.
        inputs: of one batch.
        readers: functions of torch that count as readers, and the place of the weight among their arguments.
    """
    watch = _Watch(readers)
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: watch.start(name, module, output))
        for name, module in owners.items()
    ]
    # What a truly sparse layer computes is no function of torch.
    handles += [
        module.register_forward_pre_hook(lambda module, args: watch.end(args, "a truly sparse layer"))
        for module in model.modules()
        if isinstance(module, SPARSE_LAYERS)
    ]
    try:
        with watch:
            outputs = call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    watch.end(outputs, "the model's outputs")
    return watch.uses
