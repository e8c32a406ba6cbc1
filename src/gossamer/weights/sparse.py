"""A truly sparse weight: the values and the topology of a layer."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gossamer import topology
from gossamer.nn import SparseEmbedding, SparseLinear
from gossamer.nn.counterparts import SparseLayer, weight_shape
from gossamer.weights.recorded import (
    gradient_across,
    gradient_at,
    gradient_of,
    gradient_tiles,
    inputs_of,
    on_gradient,
    outputs_shape,
)
from gossamer.weights.resize import destinations, take
from gossamer.weights.rough import RoughGradient, rough_gradient
from gossamer.weights.state import move_state_
from gossamer.weights.tiles import GradientTiles, over_ranks, trains_together, unseen
from gossamer.weights.undo import keep_attributes, keep_parameter, on_failure, write_
from gossamer.weights.view import cleared, nothing_closed


@final
class SparseWeight:
    """The values and the topology of a truly sparse layer; everything here is O(active) but for `gradient_tiles`.

    Its layer is a `SparseLinear`, `SparseConv1d`, `SparseConv2d` or `SparseEmbedding`; in the row of an embedding's
    padding_idx nothing grows, as it must stay zero.

    Args:
        name: where the weight stands in the model.
        module: the layer.
    """

    def __init__(self, name: str, module: SparseLayer) -> None:
        self.name = name
        self.shape = weight_shape(module)
        self.module = module
        self.closed_rows, self.closed_columns = nothing_closed(self.shape, module.values.device)
        if isinstance(module, SparseEmbedding) and module.padding_idx is not None:
            self.closed_rows[module.padding_idx] = True
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
    def current(self) -> nn.Parameter | None:
        """What the module has in its place now: the same."""
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

    def set_values_(self, values: Tensor) -> None:
        """Give the active weights other values; see `Weight`."""
        write_(self.module.values.data, values)

    def gradient(self) -> Tensor:
        """Return the gradient of the active weights; see `Weight`."""
        if (gradient := self.module.values.grad) is None:
            raise RuntimeError(cleared(self.name))
        return gradient.detach()

    def change_(self, kept: Tensor, grown: Tensor, grown_values: Tensor, optimizer: Optimizer | None) -> None:
        """Keep some active weights, add others, and move the optimizer's state along; see `Weight`."""
        old_shape = self.module.values.shape
        if kept.numel() + grown.numel() != old_shape[0] and trains_together():
            raise RuntimeError(
                f"{self.name} would change its length, which DistributedDataParallel cannot follow; train it masked "
                "and convert it with to_sparse afterwards"
            )
        places, source = topology.exchange(self.module.topology, kept, grown)
        values = topology.gather(self.values(), source, grown_values.to(self.module.values.dtype))
        self.module.replace_(places, values)
        move_state_(optimizer, self.module.values, old_shape, lambda tensor: topology.gather(tensor, source))
        self.module.values.grad = None

    def resize_(self, rows: Tensor, columns: Tensor, optimizer: Optimizer | None) -> None:
        """Give the weight of a linear layer another shape, in place; see `MaskedWeight.resize_`.

        The layer's bias is left to the caller.
        """
        if not isinstance(self.module, SparseLinear):
            raise TypeError(f"{self.name} is of a {type(self.module).__name__}; only linear layers change their size")
        indices, width = self.indices(), self.shape[1]
        row = destinations(rows, self.shape[0])[indices // max(1, width)]
        column = destinations(columns, width)[indices % max(1, width)]
        kept = ((row >= 0) & (column >= 0)).nonzero().flatten()
        self.shape = shape = (rows.numel(), columns.numel())
        old_shape = self.module.values.shape
        self.module.replace_(topology.from_linear((row * shape[1] + column)[kept], shape), self.values()[kept])
        move_state_(optimizer, self.module.values, old_shape, lambda tensor: tensor[kept])
        self.module.values.grad = None
        self.closed_rows, self.closed_columns = take(self.closed_rows, rows, 0), take(self.closed_columns, columns, 0)
        self._seen = [(take(inputs, columns, 1), take(grads, rows, 1)) for inputs, grads in self._seen]

    def remember(self) -> None:
        """Have what an update changes taken back if it fails; see `undo.all_or_nothing`."""
        keep_attributes(self)
        places, values = self.module.topology, self.module.values.data
        keep_parameter(self.module.values)
        on_failure(lambda: self.module.replace_(places, values))
        # Small, and whoever closes rows may write to them.
        self.closed_rows, self.closed_columns = self.closed_rows.clone(), self.closed_columns.clone()

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

    @property
    def is_idle(self) -> bool:
        """Whether its hooks do nothing now, so that `nn.Sequential` need not call them."""
        return not self._watching

    def watch(self) -> None:
        """Record inputs and output gradients of the layer from now on."""
        self._watching = True

    def unwatch(self) -> None:
        """Stop recording and forget."""
        self._watching, self._arriving, self._seen = False, [], []

    def seen(self) -> list[tuple[Tensor, Tensor]]:
        """Return inputs and output gradients of each call of the layer that was watched, as in `weights/recorded.py`.

        Raises:
            RuntimeError: no backward pass was seen.
        """
        if not self._seen:
            raise RuntimeError(unseen(self.name))
        return self._seen

    def gradient_tiles(self, *, whole_rows: bool = False) -> GradientTiles:
        """Return the dense gradient, multiplied out tile by tile; see `Weight`.

        Cost: memory for a tile of `tiles.TILE_BYTES`; two where several passes were recorded, or several ranks train.
        """
        linear = isinstance(self.module, SparseLinear)
        sample, rough = (self._sample, self._rough) if linear else (None, None)
        return GradientTiles(functools.partial(self._tiles, whole_rows), sample, self.module.topology.shape, rough)

    def _tiles(self, whole_rows: bool) -> Iterator[tuple[int, Tensor]]:
        columns = self.module.topology.shape[1]
        for tile in gradient_tiles(self.module, whole_rows=whole_rows):
            yield tile.start * columns + tile.left, self._summed(functools.partial(gradient_of, tile=tile))

    def _rough(self) -> RoughGradient | None:
        # Of several passes, or ranks, the sum is searched.
        return rough_gradient(*self._seen[0]) if len(self._seen) == 1 and not trains_together() else None

    def _sample(self, rows: Tensor, columns: Tensor) -> Tensor:
        device = self.module.values.device
        return self._summed(functools.partial(gradient_across, rows=rows.to(device), columns=columns.to(device)))

    def gradient_at(self, indices: Tensor) -> Tensor:
        """Return the dense gradient at some entries, O(entries * batch) for a linear layer; see `Weight`."""
        return self._summed(functools.partial(gradient_at, indices=indices))

    def _summed(self, of_pass: Callable[..., Tensor]) -> Tensor:
        """Add up over recorded passes and over ranks."""
        if not self._seen:
            raise RuntimeError(unseen(self.name))
        total = of_pass(self.module, *self._seen[0])
        for pair in self._seen[1:]:
            total += of_pass(self.module, *pair)
        return over_ranks(total)

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if not (self._watching and output.requires_grad):
            return
        inputs = inputs_of(self.module, args[0] if args else next(iter(kwargs.values())))
        shape = outputs_shape(self.module, output)
        linear = isinstance(self.module, SparseLinear)
        on_gradient(output, shape, lambda grad: self._arrive(inputs, grad), linear=linear)

    def _arrive(self, inputs: Tensor, output_grad: Tensor) -> None:
        self._arriving.append((inputs, output_grad))
        # A pass that ends without asking for the weights' gradient, such as one to the inputs alone, does not count.
        torch.autograd.Variable._execution_engine.queue_callback(self._arriving.clear)

    def _collect(self, gradient: Tensor) -> None:
        """Runs once a backward pass, after the hooks of all outputs."""
        # No gradient yet: see MaskedWeight._mask_gradient.
        before = [] if self.module.values.grad is None else self._seen
        self._seen, self._arriving = before + self._arriving, []
