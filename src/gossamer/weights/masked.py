"""A masked weight: a dense parameter and a mask."""

from collections.abc import Iterator
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gossamer.nn.parameter import set_data_
from gossamer.weights.recorded import on_gradient
from gossamer.weights.resize import take
from gossamer.weights.state import clear_state_at_, move_state_
from gossamer.weights.tiles import GradientTiles, over_ranks, tiles, unseen
from gossamer.weights.undo import clear_, keep_attributes, keep_entries, keep_parameter, write_, write_at_
from gossamer.weights.view import cleared, nothing_closed


@final
class MaskedWeight:
    """A dense parameter and a mask: nothing about the module changes, and nothing is saved by it either.

    The mask is applied to the gradient as it is made, so that clipping and momentum see active weights alone.

    With `keep_latent_` the mask hides values instead of ending them: the module computes with the masked values, and
    what absent weights would be worth is kept beside them, either frozen or trained along.

    Args:
        name: where the weight stands in the model.
        parameter: dense tensor with at least two axes.
        module: what has it under the last part of the name; None: unknown.

    Attributes:
        latent: values of the absent weights, zero at active ones, the weight's shape; None: they are forgotten.
        trains_latent: whether the optimizer moves them, by the gradient at the masked values.
        reach: which entries it then moves, active ones among them, bool, the weight's shape; None: all.
        records: the linear layer of the weight, if watching it records its inputs and output gradients too; None: only
            the dense gradient. To be set before `attach`.
    """

    def __init__(self, name: str, parameter: nn.Parameter, module: nn.Module | None = None) -> None:
        self.name = name
        self._module = module
        self.shape = tuple(parameter.shape)
        self.mask = torch.ones(self.shape, dtype=torch.bool, device=parameter.device)
        self.closed_rows, self.closed_columns = nothing_closed(self.shape, parameter.device)
        self.latent: Tensor | None = None
        self.trains_latent = False
        self.reach: Tensor | None = None
        self.records: nn.Linear | None = None
        self._parameter = parameter
        self._watching = False
        self._dense_gradient: Tensor | None = None
        # Of the backward pass that is under way, and of those that are done.
        self._arriving: list[tuple[Tensor, Tensor]] = []
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._handles: list[RemovableHandle] = []

    def __getstate__(self) -> dict[str, Any]:
        # A copied or pickled parameter takes its hooks along, but not the module that it was in; nor must they hoard
        # there what nobody reads.
        return self.__dict__ | {
            "_module": None,
            "_watching": False,
            "_dense_gradient": None,
            "_arriving": [],
            "_seen": [],
            "_handles": [],
        }

    @property
    def parameter(self) -> nn.Parameter:
        """The dense tensor."""
        return self._parameter

    @property
    def current(self) -> nn.Parameter | None:
        """What the module has in its place now; None where that is unknown or computed."""
        return None if self._module is None else self._module._parameters.get(self.name.rpartition(".")[2])

    @property
    def mask(self) -> Tensor:
        """Which entries exist: bool, the weight's shape."""
        return self._mask

    @mask.setter
    def mask(self, mask: Tensor) -> None:
        self._mask = mask
        self._num_active = int(mask.count_nonzero())
        self._inactive: Tensor | None = None

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

    def set_values_(self, values: Tensor) -> None:
        """Give the active weights other values; see `Weight`."""
        keep_entries(self._parameter.data)
        self._parameter.data[self.mask] = values.to(self._parameter.dtype)

    def gradient(self) -> Tensor:
        """Return the gradient of the active weights; see `Weight`."""
        if (gradient := self._parameter.grad) is None:
            raise RuntimeError(cleared(self.name))
        return gradient.detach()[self.mask]

    def keep_latent_(self, *, trained: bool) -> None:
        """Remember from now on what absent weights are worth; now they are worth zero.

        Args:
            trained: whether gradient and optimizer reach them; else they stay as they were when they were dropped.
        """
        self.latent, self.trains_latent = torch.zeros_like(self._parameter.detach()), trained

    def dense_values(self) -> Tensor:
        """Return all values, latent ones where nothing is active: a new tensor of the weight's shape."""
        values = self._parameter.detach()
        return values.clone() if self.latent is None else torch.where(self.mask, values, self.latent)

    def set_mask_(self, mask: Tensor) -> None:
        """Take a mask of the weight's shape and zero what it leaves out; latent values come back where it has them.

        Raises:
            ValueError: the mask has another shape.
        """
        if mask.shape != self.mask.shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, {self.name} has {self.shape}; they must agree")
        dense = None if self.latent is None else self.dense_values()
        self.mask = mask.to(self.mask.device).clone()
        if dense is None:
            self.apply_mask_()
        else:
            self.latent = dense.masked_fill(self.mask, 0.0)
            write_(self._parameter.data, dense.masked_fill_(~self.mask, 0.0))

    def apply_mask_(self) -> None:
        """Set inactive weights to zero, whatever an optimizer made of them."""
        if (gaps := self._gaps()) is not None:
            clear_(self._parameter.data, gaps)

    def change_(self, kept: Tensor, grown: Tensor, grown_values: Tensor, optimizer: Optimizer | None) -> None:
        """Keep some active weights, add others, and clear the state of what changed; see `Weight`."""
        dense = None if self.latent is None else self.dense_values()
        indices = self.indices()
        survivors = torch.zeros(self.mask.numel(), dtype=torch.bool, device=self.mask.device)
        survivors[indices[kept]] = True
        joined = self._joined(survivors, kept, grown)
        # Nothing else changes its state or its value: what is absent before and after is zero.
        dropped = indices[~survivors[indices]]
        self.mask = joined.view(self.shape)
        write_at_(self._parameter.data, 0, dropped)
        write_at_(self._parameter.data, grown_values.to(self._parameter.dtype), grown)
        if dense is not None:
            self.latent = dense.masked_fill_(self.mask, 0.0)
        # Dropped weights must not come back with old momentum, nor others with what an optimizer put there.
        for changed in (dropped, grown):
            clear_state_at_(optimizer, self._parameter, changed)
        self._parameter.grad = None

    def resize_(self, rows: Tensor, columns: Tensor, optimizer: Optimizer | None) -> None:
        """Give the weight of a linear layer another shape, in place: the parameter stays the same object.

        Args:
            rows: the output that each output was before, ascending, and -1 for new ones behind them, [out], int64.
            columns: the same of the inputs, shape [in]. Nothing is active in new rows and columns.
            optimizer: what holds state of the parameter: all that stays keeps its own.
        """
        old, parameter = self.shape, self._parameter
        set_data_(parameter, take(take(parameter.detach(), rows, 0), columns, 1))
        move_state_(optimizer, parameter, torch.Size(old), lambda tensor: take(take(tensor, rows, 0), columns, 1))
        # A factored second moment has one number for each row, or for each column.
        move_state_(optimizer, parameter, torch.Size((old[0], 1)), lambda tensor: take(tensor, rows, 0))
        move_state_(optimizer, parameter, torch.Size((1, old[1])), lambda tensor: take(tensor, columns, 1))
        self.shape = tuple(parameter.shape)
        self.mask = take(take(self.mask, rows, 0), columns, 1)
        if self.latent is not None:
            self.latent = take(take(self.latent, rows, 0), columns, 1)
        if self._dense_gradient is not None:
            self._dense_gradient = take(take(self._dense_gradient, rows, 0), columns, 1)
        self._seen = [(take(inputs, columns, 1), take(grads, rows, 1)) for inputs, grads in self._seen]
        self.closed_rows, self.closed_columns = take(self.closed_rows, rows, 0), take(self.closed_columns, columns, 0)

    def remember(self) -> None:
        """Have what an update changes taken back if it fails; see `undo.all_or_nothing`."""
        keep_attributes(self)
        keep_parameter(self._parameter)
        # Small, and whoever closes rows may write to them.
        self.closed_rows, self.closed_columns = self.closed_rows.clone(), self.closed_columns.clone()

    def before_step_(self) -> None:
        """Show the optimizer the dense values, if it trains the latent ones."""
        if self.trains_latent:
            self._parameter.data.copy_(self.dense_values())

    def after_step_(self) -> None:
        """Hide again what the optimizer was shown, and zero whatever else it made of absent weights."""
        if self.trains_latent:
            before = self.latent
            self._conceal_()
            if self.reach is not None and self.latent is not None and before is not None:
                # Weight decay moves what has no gradient too.
                self.latent = torch.where(self.reach, self.latent, before)
        else:
            self.apply_mask_()

    def attach(self) -> None:
        """Mask the gradient from now on."""
        self._handles.append(self._parameter.register_hook(self._mask_gradient))
        if self.records is not None:
            self._handles.append(self.records.register_forward_hook(self._record, with_kwargs=True))

    def release_with(self, *handles: RemovableHandle) -> None:
        """Remove hooks of others together with its own."""
        self._handles.extend(handles)

    def detach(self) -> None:
        """Stop masking the gradient, and forget latent values."""
        self.latent, self.trains_latent, self.reach = None, False, None
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def watch(self) -> None:
        """Record the dense gradient from now on."""
        self._watching = True

    def unwatch(self) -> None:
        """Stop recording and forget."""
        self._watching, self._dense_gradient, self._arriving, self._seen = False, None, [], []

    def seen(self) -> list[tuple[Tensor, Tensor]]:
        """Return inputs and output gradients of each call of the layer that was watched; see `SparseWeight.seen`."""
        if not self._seen:
            raise RuntimeError(unseen(self.name))
        return self._seen

    def gradient_tiles(self, *, whole_rows: bool = False) -> GradientTiles:
        """Return the recorded dense gradient; see `Weight`."""
        shape = self.closed_rows.numel(), self.closed_columns.numel()
        return GradientTiles(
            partial(self._tiles, whole_rows),
            lambda rows, columns: over_ranks(self._recorded()[rows][:, columns]),
            shape,
        )

    def _tiles(self, whole_rows: bool) -> Iterator[tuple[int, Tensor]]:
        gradient = self._recorded()
        columns = gradient.shape[1]
        for start, stop, left, right in tiles(*gradient.shape, itemsize=gradient.element_size(), whole_rows=whole_rows):
            yield start * columns + left, over_ranks(gradient[start:stop, left:right])

    def gradient_at(self, indices: Tensor) -> Tensor:
        """Return the recorded dense gradient at some entries; see `Weight`."""
        return over_ranks(self._recorded().flatten()[indices])

    def _recorded(self) -> Tensor:
        """The dense gradient as a matrix."""
        if self._dense_gradient is None:
            raise RuntimeError(unseen(self.name))
        return self._dense_gradient.reshape(self.closed_rows.numel(), self.closed_columns.numel())

    def check_shape(self, shape: torch.Size) -> None:
        """Raise unless the parameter, or its gradient, has the shape of the mask.

        Raises:
            RuntimeError: it was resized.
        """
        if shape != self._mask.shape:
            raise RuntimeError(
                f"{self.name} has shape {tuple(shape)} now, its mask {self.shape}; call finalize() before a weight is "
                "resized, and make optimizer and sparsifier anew after it"
            )

    def _joined(self, survivors: Tensor, kept: Tensor, grown: Tensor) -> Tensor:
        """Add what is grown to what survives, or raise if it is there already, named twice or no entry."""
        within = bool(((grown >= 0) & (grown < survivors.numel())).all())
        joined = survivors.clone().index_fill_(0, grown, True) if within else survivors
        if int(joined.count_nonzero()) != kept.numel() + grown.numel():
            raise ValueError(
                f"cannot keep {kept.numel()} of {self.num_active} entries and add {grown.numel()}: both must be "
                f"without repeats, within a weight of shape {self.shape}, and what is added must not be there already"
            )
        return joined

    def _conceal_(self) -> None:
        """Move what stands in the parameter at absent places to the latent values, if these are kept."""
        if self.latent is not None:
            self.latent = self._parameter.detach().masked_fill(self.mask, 0.0)
        self.apply_mask_()

    def _mask_gradient(self, gradient: Tensor) -> Tensor:
        self.check_shape(gradient.shape)
        if self._watching:
            self._seen = ([] if self._parameter.grad is None else self._seen) + self._arriving
            self._arriving = []
            # No gradient yet: whatever came before was thrown away, as that of a step that a GradScaler skips.
            before = None if self._parameter.grad is None else self._dense_gradient
            self._dense_gradient = gradient.detach().clone() if before is None else before + gradient.detach()
        gaps = self._gaps()
        if self.trains_latent:
            gaps = None if self.reach is None else ~self.reach
        return gradient if gaps is None else gradient.masked_fill(gaps, 0.0)

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if not (self._watching and output.requires_grad):
            return
        inputs = args[0] if args else next(iter(kwargs.values()))
        inputs = inputs.detach().to(self._parameter.dtype, copy=True).reshape(-1, self.shape[1])
        on_gradient(output, (len(inputs), self.shape[0]), lambda grad: self._arrive(inputs, grad), linear=True)

    def _arrive(self, inputs: Tensor, output_grad: Tensor) -> None:
        self._arriving.append((inputs, output_grad.to(inputs.dtype)))
        # A pass that ends without asking for the weights' gradient, such as one to the inputs alone, does not count.
        torch.autograd.Variable._execution_engine.queue_callback(self._arriving.clear)

    def _gaps(self) -> Tensor | None:
        """What is masked; None where nothing is: then nothing needs to be done at any step."""
        if self._inactive is None and self._num_active < self._mask.numel():
            self._inactive = ~self._mask
        return self._inactive
