"""One view of a prunable weight, masked or truly sparse: its active values, and how they and their state move.

Slots are places among the active weights: slot k is the k-th active entry in the order of linear indices.
"""

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from typing import Any, Protocol, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gossamer import topology
from gossamer.nn.sparse_linear import SparseLinear

# Numbers of the dense gradient that exist at once.
_TILE_NUMBERS = 1 << 20


class Weight(Protocol):
    """What an update sees of a weight; it never asks how the weight is stored.

    Attributes:
        name: where the weight stands in the model.
        shape: shape of the dense tensor, (out, in, ...).
        parameter: the tensor that the optimizer holds.
        closed_rows, closed_columns: bool, outputs and inputs that are removed for good: nothing grows there.
    """

    name: str
    shape: tuple[int, ...]
    closed_rows: Tensor
    closed_columns: Tensor

    @property
    def parameter(self) -> nn.Parameter:
        """The tensor that the optimizer holds."""

    @property
    def num_active(self) -> int:
        """Number of weights that exist."""

    def indices(self) -> Tensor:
        """Return the linear index of each active weight, ascending, shape [num_active], int64."""

    def values(self) -> Tensor:
        """Return the active weights in the order of `indices`, detached, shape [num_active]."""

    def change_(self, kept: Tensor, grown: Tensor, grown_values: Tensor, optimizer: Optimizer | None) -> None:
        """Keep some active weights, add others, and move the optimizer's state along.

        Args:
            kept: slots that stay, ascending, shape [k], int64.
            grown: linear indices to activate, ascending, none of them among the kept, shape [g], int64.
            grown_values: their values, shape [g].
            optimizer: what holds state of the parameter: survivors keep theirs, grown weights start with zero.
        """

    def watch(self) -> None:
        """Record from now on what the dense gradient needs, once attached."""

    def unwatch(self) -> None:
        """Stop recording and forget."""

    def gradient_tiles(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the dense gradient in stretches of rows: (first linear index, [rows, columns]).

        It is summed over the backward passes since `watch` and, as the gradient itself, since the last zero_grad().

        Raises:
            RuntimeError: no backward pass was seen.
        """


def is_held(weight: Weight) -> bool:
    """Return whether a sparsifier is attached to the weight's parameter."""
    hooks = (weight.parameter._backward_hooks or {}).values()
    return any(isinstance(getattr(hook, "__self__", None), (MaskedWeight, SparseWeight)) for hook in hooks)


def numel(weight: Weight) -> int:
    """Return the number of entries of the dense tensor."""
    return math.prod(weight.shape)


def num_open(weight: Weight) -> int:
    """Return how many entries are neither in a closed row nor in a closed column."""
    return int((~weight.closed_rows).sum()) * int((~weight.closed_columns).sum())


@final
class MaskedWeight:
    """A dense parameter and a mask: nothing about the module changes, and nothing is saved by it either.

    The mask is applied to the gradient as it is made, so that clipping and momentum see active weights alone.

    Args:
        name: where the weight stands in the model.
        parameter: dense tensor with at least two axes.
    """

    def __init__(self, name: str, parameter: nn.Parameter) -> None:
        self.name = name
        self.shape = tuple(parameter.shape)
        self.mask = torch.ones(self.shape, dtype=torch.bool, device=parameter.device)
        self.closed_rows, self.closed_columns = _nothing_closed(self.shape, parameter.device)
        self._parameter = parameter
        self._watching = False
        self._dense_gradient: Tensor | None = None
        self._handle: RemovableHandle | None = None

    @property
    def parameter(self) -> nn.Parameter:
        """The dense tensor."""
        return self._parameter

    @property
    def mask(self) -> Tensor:
        """Which entries exist: bool, the weight's shape."""
        return self._mask

    @mask.setter
    def mask(self, mask: Tensor) -> None:
        self._mask = mask
        self._num_active = int(mask.sum())
        # None where nothing is masked: then nothing needs to be done at any step.
        self._inactive = ~mask if self._num_active < mask.numel() else None

    @property
    def num_active(self) -> int:
        """Number of weights that exist."""
        return self._num_active

    def indices(self) -> Tensor:
        """Return the linear index of each active weight; see `Weight`."""
        return self.mask.flatten().nonzero().flatten()

    def values(self) -> Tensor:
        """Return the active weights; see `Weight`."""
        return self._parameter.detach()[self.mask]

    def set_mask_(self, mask: Tensor) -> None:
        """Take a mask of the weight's shape and zero what it leaves out.

        Raises:
            ValueError: the mask has another shape.
        """
        if mask.shape != self.mask.shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, {self.name} has {self.shape}; they must agree")
        self.mask = mask.to(self.mask.device).clone()
        self.apply_mask_()

    def apply_mask_(self) -> None:
        """Set inactive weights to zero, whatever an optimizer made of them."""
        if self._inactive is not None:
            self._parameter.data.masked_fill_(self._inactive, 0.0)

    def change_(self, kept: Tensor, grown: Tensor, grown_values: Tensor, optimizer: Optimizer | None) -> None:
        """Keep some active weights, add others, and clear the state of what changed; see `Weight`."""
        survivors = torch.zeros(self.mask.numel(), dtype=torch.bool, device=self.mask.device)
        survivors[self.indices()[kept]] = True
        self.mask = survivors.clone().index_fill_(0, grown, True).view(self.shape)
        self.apply_mask_()
        if grown.numel():
            places = torch.unravel_index(grown, self.shape)
            self._parameter.data[places] = grown_values.to(self._parameter.dtype)
        # Zero outside the survivors: dropped weights must not come back with old momentum.
        gone = ~survivors.view(self.shape)
        _move_state_(optimizer, self._parameter, self._parameter.shape, lambda tensor: tensor.masked_fill_(gone, 0))
        self._parameter.grad = None

    def attach(self) -> None:
        """Mask the gradient from now on."""
        self._handle = self._parameter.register_hook(self._mask_gradient)

    def detach(self) -> None:
        """Stop masking the gradient."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def watch(self) -> None:
        """Record the dense gradient from now on."""
        self._watching = True

    def unwatch(self) -> None:
        """Stop recording and forget."""
        self._watching, self._dense_gradient = False, None

    def gradient_tiles(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the recorded dense gradient; see `Weight`."""
        if self._dense_gradient is None:
            raise RuntimeError(_unseen(self.name))
        gradient = self._dense_gradient.reshape(self.shape[0], -1)
        for start, stop in _row_tiles(*gradient.shape):
            yield start * gradient.shape[1], _over_ranks(gradient[start:stop])

    def _mask_gradient(self, gradient: Tensor) -> Tensor:
        if self._watching:
            # No gradient yet: whatever came before was thrown away, as that of a step that a GradScaler skips.
            before = None if self._parameter.grad is None else self._dense_gradient
            self._dense_gradient = gradient.detach().clone() if before is None else before + gradient.detach()
        return gradient if self._inactive is None else gradient.masked_fill(self._inactive, 0.0)


@final
class SparseWeight:
    """The values and the topology of a `SparseLinear`; everything here is O(active) but for `gradient_tiles`.

    Args:
        name: where the weight stands in the model.
        module: the layer.
    """

    def __init__(self, name: str, module: SparseLinear) -> None:
        self.name = name
        self.shape: tuple[int, ...] = (module.out_features, module.in_features)
        self.module = module
        self.closed_rows, self.closed_columns = _nothing_closed(self.shape, module.values.device)
        self._watching = False
        # Inputs and output gradients: of the backward pass that is under way, and of those that are done.
        self._arriving: list[tuple[Tensor, Tensor]] = []
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._handles: list[RemovableHandle] = []

    def __getstate__(self) -> dict[str, Any]:
        # A copied or pickled layer takes its hooks along; there they must not hoard what nobody reads.
        return self.__dict__ | {"_watching": False, "_arriving": [], "_seen": [], "_handles": []}

    @property
    def parameter(self) -> nn.Parameter:
        """The 1-D parameter of active values."""
        return self.module.values

    @property
    def num_active(self) -> int:
        """Number of weights that exist."""
        return self.module.num_active

    def indices(self) -> Tensor:
        """Return the linear index of each active weight; see `Weight`."""
        return topology.linear_indices(self.module.topology)

    def values(self) -> Tensor:
        """Return the active weights; see `Weight`."""
        return self.module.values.detach()

    def change_(self, kept: Tensor, grown: Tensor, grown_values: Tensor, optimizer: Optimizer | None) -> None:
        """Keep some active weights, add others, and move the optimizer's state along; see `Weight`."""
        old_shape = self.module.values.shape
        linear, order = torch.cat([self.indices()[kept], grown]).sort()
        # source[new slot] = old slot, or -1 where the weight is new
        source = torch.cat([kept, kept.new_full((grown.numel(),), -1)])[order]
        values = torch.cat([self.values()[kept], grown_values.to(self.module.values.dtype)])[order]
        self.module.replace_(topology.from_linear(linear, self.module.topology.shape), values)
        old = source >= 0

        def follow(tensor: Tensor) -> Tensor:
            moved = tensor.new_zeros(source.shape)
            moved[old] = tensor[source[old]]
            return moved

        _move_state_(optimizer, self.module.values, old_shape, follow)
        self.module.values.grad = None

    def attach(self) -> None:
        """Listen to the layer from now on; torch.compile passes over hooks that come after it."""
        self._handles = [
            self.module.register_forward_hook(self._record, with_kwargs=True),
            self.module.values.register_hook(self._collect),
        ]

    def detach(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def watch(self) -> None:
        """Record inputs and output gradients of the layer from now on."""
        self._watching = True

    def unwatch(self) -> None:
        """Stop recording and forget."""
        self._watching, self._arriving, self._seen = False, [], []

    def gradient_tiles(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the dense gradient, multiplied out tile by tile in bounded memory; see `Weight`."""
        if not self._seen:
            raise RuntimeError(_unseen(self.name))
        rows, columns = self.module.topology.shape
        for start, stop in _row_tiles(rows, columns):
            parts = [output_grad[:, start:stop].t() @ inputs for inputs, output_grad in self._seen]
            yield start * columns, _over_ranks(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if self._watching and output.requires_grad:
            batch = math.prod(output.shape[:-1])
            inputs = (args[0] if args else kwargs["inputs"]).detach().reshape(batch, self.shape[1])
            # A copy: the user may fill the same buffer with the next batch.
            inputs = inputs.to(self.module.values.dtype, copy=True)
            base = output._base
            if base is not None and base.shape == (self.shape[0], batch):
                # A hook on the view is lost where the next module works in place; one on what it views is not.
                base.register_hook(lambda grad: self._arriving.append((inputs, grad.detach().t())))
            else:
                output.register_hook(
                    lambda grad: self._arriving.append((inputs, grad.detach().reshape(batch, self.shape[0])))
                )

    def _collect(self, gradient: Tensor) -> None:
        """Runs once a backward pass, after the hooks of all outputs."""
        # No gradient yet: see MaskedWeight._mask_gradient.
        before = [] if self.module.values.grad is None else self._seen
        self._seen, self._arriving = before + self._arriving, []


def prunable(
    model: nn.Module, *, include: Iterable[str] = ("*",), exclude: Iterable[str] = ()
) -> list[MaskedWeight | SparseWeight]:
    """List the weights of a model that can be sparse: of Linear, Conv1d to Conv3d (masked) and SparseLinear.

    Args:
        model: any module.
        include: glob patterns, or one; a weight is taken if its name matches one.
        exclude: glob patterns, or one; a weight whose name matches one is left out.

    Returns:
        One view for each weight that is trained; a tied weight or a shared module comes once, frozen ones not at all.

    Raises:
        ValueError: no weight is left, or one is no parameter but computed from others.

    Example:
        >>> [weight.name for weight in prunable(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))]
        ['0.weight', '2.weight']
    """
    # A string is a sequence of strings too: its letters, among them a "*" that matches everything.
    include = (include,) if isinstance(include, str) else tuple(include)
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    found: list[MaskedWeight | SparseWeight] = []
    parameter: nn.Parameter | Tensor
    for path, module in model.named_modules():
        if isinstance(module, SparseLinear):
            name, parameter = f"{path}.values".lstrip("."), module.values
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            name, parameter = f"{path}.weight".lstrip("."), module.weight
        else:
            continue
        wanted = any(fnmatch.fnmatch(name, glob) for glob in include)
        wanted = wanted and not any(fnmatch.fnmatch(name, glob) for glob in exclude)
        taken = any(weight.parameter is parameter for weight in found)
        if wanted and not taken and parameter.requires_grad:
            if isinstance(module, SparseLinear):
                found.append(SparseWeight(name, module))
            elif isinstance(parameter, nn.Parameter):
                found.append(MaskedWeight(name, parameter))
            else:
                raise ValueError(f"{name} is computed by a parametrization, not trained; remove that first")
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no trainable Linear, Conv or SparseLinear weight that matches "
            f"{', '.join(include)}; check include and exclude, and requires_grad"
        )
    return found


def _nothing_closed(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    columns = math.prod(shape[1:])
    return (
        torch.zeros(shape[0], dtype=torch.bool, device=device),
        torch.zeros(columns, dtype=torch.bool, device=device),
    )


def _row_tiles(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(1, _TILE_NUMBERS // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _over_ranks(tile: Tensor) -> Tensor:
    """Sum over the processes that train together, so that all of them grow the same weights."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        tile = tile.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(tile)
    return tile


def _unseen(name: str) -> str:
    return (
        f"no gradient of {name} was seen since the last step; the layer must take part in a backward pass before "
        "sparsifier.step(), and a model under torch.compile must be compiled after the sparsifier is made"
    )


def _move_state_(
    optimizer: Optimizer | None, parameter: nn.Parameter, shape: torch.Size, move: Callable[[Tensor], Tensor]
) -> None:
    """Apply `move` to every tensor of this shape that the optimizer keeps for the parameter, whatever its class."""
    if optimizer is not None and parameter in optimizer.state:
        optimizer.state[parameter] = _moved(optimizer.state[parameter], shape, move)


def _moved(value: Any, shape: torch.Size, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value) if value.shape == shape else value
    if isinstance(value, tuple):
        items = [_moved(item, shape, move) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, (MutableMapping, MutableSequence)):
        for key in list(value) if isinstance(value, MutableMapping) else range(len(value)):
            value[key] = _moved(value[key], shape, move)
    return value
