"""The one stateful object: it owns which weights exist, counts optimizer steps and applies updates."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
import torch.distributed as dist
from torch.optim import Optimizer

from gossamer import topology
from gossamer.updates.change import Change, JointUpdate, Remembers, Update, naming
from gossamer.weights import MaskedWeight, SparseWeight, Weight, check_intact, is_held
from gossamer.weights.undo import MOST_WEIGHTS, all_or_nothing, keep_attributes, on_failure, remember_no_more


@final
class Sparsifier:
    """Change the topologies of a model as it trains, and keep the optimizer's state with the weights.

    Call `step()` after `optimizer.step()`: backward, unscale, clip, optimizer.step(), sparsifier.step(). The optimizer
    is hooked, never replaced; a step that a GradScaler skips is not counted.

    For some tens of steps after an exchange the running statistics of batch normalisation are those of the topology
    before; `statistics.reestimate_` takes them anew, for an evaluation that comes so soon.

    Args:
        weights: from `weights.prunable(model)`, masks set.
        optimizer: holds every one of the weights.
        updates: rules that act at some steps, in this order; none: the topology is fixed.
        generator: source of randomness for growth, on the CPU.

    Attributes:
        weights: the views given.
        num_steps: optimizer steps counted so far.

    Raises:
        ValueError: the optimizer does not hold a weight, another sparsifier does already, the optimizer keeps its
            state where it cannot be moved (LBFGS), or an update cannot work on a weight.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> from gossamer.weights import prunable
        >>> sparsifier = Sparsifier(prunable(model), optimizer, updates=[], generator=torch.Generator())
        >>> sparsifier.step()
        []
    """

    def __init__(
        self,
        weights: Sequence[MaskedWeight | SparseWeight],
        optimizer: Optimizer,
        *,
        updates: Sequence[Update | JointUpdate],
        generator: torch.Generator,
    ) -> None:
        check_optimizer(weights, optimizer)
        self.weights = list(weights)
        self.num_steps = 0
        self._optimizer = optimizer
        self._updates = list(updates)
        self._generator = generator
        self._stepped = False
        for update in self._remembering().values():
            update.begin(list(self.weights))
        self._handles: list[Any] = [
            optimizer.register_step_pre_hook(self._before_optimizer_step),
            optimizer.register_step_post_hook(self._after_optimizer_step),
        ]
        self._finished = False
        for weight in self.weights:
            weight.attach()
        self._look()
        self._watch()

    def step(self) -> list[Change]:
        """Count the optimizer step just taken and apply the updates that are due.

        Returns:
            What changed, one record a weight and update; empty at most steps, and where the optimizer took no step.

        Raises:
            RuntimeError: the sparsifier is finalized, a weight was replaced or resized by somebody else, an update
                lacks what it needs, or ranks no longer agree; weights are named in the error.
            ValueError: an update met a NaN, or asks for what cannot be.

        After any error the step does not count, and values, topologies, optimizer state and what updates remember are
        what they were before it, bit for bit; of a model of more than 134 million active weights, whose topologies are
        not held twice, what was exchanged before the error stays, and a note says so.
        """
        self._check_unfinished()
        if not self._stepped:
            return []
        self._check_intact()
        with all_or_nothing():
            keep_attributes(self)
            self._stepped = False
            self.num_steps += 1
            due = [update for update in self._updates if update.due(self.num_steps)]
            if due:
                self._remember()
            changes = [change for update in due for change in self._apply(update)]
            if changes:
                self._check_ranks()
        self._look()
        self._watch()
        return changes

    @property
    def resizes(self) -> bool:
        """Whether hidden layers may get another size in training: an update says so by `resizes`."""
        return any(getattr(update, "resizes", False) for update in self._updates)

    def num_active(self) -> int:
        """Return how many weights exist over all tensors; biases and other parameters are not counted."""
        return sum(weight.num_active for weight in self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what, beside model and optimizer, is needed to go on: tensors, numbers and strings only."""
        return {
            "num_steps": self.num_steps,
            "generator": self._generator.get_state(),
            "weights": {weight.name: _weight_state(weight) for weight in self.weights},
            "updates": {name: update.state_dict() for name, update in self._remembering().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; load the model and the optimizer too, in any order.

        Args:
            state: from `state_dict()`.

        Raises:
            RuntimeError: the sparsifier is finalized.
            ValueError: the state is of another model: names or shapes differ. Nothing is changed then.
        """
        self._check_unfinished()
        saved = state["weights"]
        mine = {weight.name: list(weight.shape) for weight in self.weights}
        theirs = {name: list(entry["shape"]) for name, entry in saved.items()}
        if mine != theirs:
            raise ValueError(f"the saved sparsifier is of another model: it has {theirs}, this one {mine}")
        for weight in self.weights:
            if isinstance(weight, MaskedWeight) != ("mask" in saved[weight.name]):
                raise ValueError(f"{weight.name} is masked on one side and truly sparse on the other; use one storage")
            if _keeps_latent(weight) != ("latent" in saved[weight.name]):
                raise ValueError(f"{weight.name} keeps latent values on one side alone; use the recipe that was saved")
        # A state of before updates could remember has no such entry.
        memories, updates = state.get("updates", {}), self._remembering()
        if memories.keys() != updates.keys():
            raise ValueError(
                f"the saved updates that remember something are {', '.join(memories) or 'none'}, here "
                f"{', '.join(updates) or 'none'}; use the recipe that was saved"
            )
        for weight in self.weights:
            _load_weight_state(weight, saved[weight.name])
        for name, update in updates.items():
            update.load_state_dict(memories[name])
        self.num_steps = int(state["num_steps"])
        self._generator.set_state(state["generator"].cpu())
        self._stepped = False
        self._look()
        self._watch()

    def finalize(self) -> None:
        """Let go of model and optimizer: hooks go, masked weights keep their zeros, modules stay as they are."""
        if self._finished:
            return
        for weight in self.weights:
            weight.unwatch()
            if isinstance(weight, MaskedWeight):
                weight.apply_mask_()
            weight.detach()
        for handle in self._handles:
            handle.remove()
        self._finished = True

    def _check_unfinished(self) -> None:
        if self._finished:
            raise RuntimeError("this sparsifier is finalized; make a new one to go on changing topologies")

    def _check_intact(self) -> None:
        """Raise if a weight was replaced or resized since the sparsifier looked last."""
        for weight, parameter, shape in zip(self.weights, self._parameters, self._shapes, strict=True):
            check_intact(weight, parameter, shape, self._optimizer)

    def _look(self) -> None:
        """Remember the parameters, and the shapes that the optimizer's state is to have."""
        self._parameters = [weight.parameter for weight in self.weights]
        self._shapes = [weight.parameter.shape for weight in self.weights]

    def _remembering(self) -> dict[str, Remembers]:
        """The updates that have a state, by place and kind."""
        return {
            f"{place} {type(update).__name__}": update
            for place, update in enumerate(self._updates)
            if isinstance(update, Remembers)
        }

    def _remember(self) -> None:
        """Have all that an update may change taken back if one fails."""
        state = self._generator.get_state()
        on_failure(lambda: self._generator.set_state(state))
        for update in self._updates:
            keep_attributes(update)
        if sum(weight.num_active for weight in self.weights) > MOST_WEIGHTS:
            remember_no_more()
            return
        for weight in self.weights:
            weight.remember()

    def _apply(self, update: Update | JointUpdate) -> list[Change]:
        weights: list[Weight] = list(self.weights)
        settings: Any = {"optimizer": self._optimizer, "generator": self._generator}
        if isinstance(update, JointUpdate):
            return update.apply_all(weights, self.num_steps, **settings)
        changes = []
        for weight in weights:
            with naming(weight, self.num_steps):
                changes.append(update.apply(weight, weights, self.num_steps, **settings))
        return changes

    def _watch(self) -> None:
        """Record gradients for the coming step if an update will need them then, and at no other step."""
        needed = any(update.uses_gradient and update.due(self.num_steps + 1) for update in self._updates)
        for weight in self.weights:
            weight.unwatch()
            if needed:
                weight.watch()

    def _before_optimizer_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._check_intact()
        for weight in self.weights:
            if isinstance(weight, MaskedWeight) and weight.trains_latent:
                # args holds the optimizer itself too.
                if kwargs.get("closure") or any(args[1:]):
                    raise RuntimeError(
                        f"optimizer.step was given a closure, which would see {weight.name} without its mask; call "
                        "backward() before optimizer.step()"
                    )
                weight.before_step_()

    def _after_optimizer_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # A fused optimizer is called even for a step that a GradScaler skips, and told so.
        skipped = getattr(optimizer, "found_inf", None)
        self._stepped |= skipped is None or not bool(skipped)
        for weight in self.weights:
            if isinstance(weight, MaskedWeight):
                # Weight decay, noise or a foreign rule may have moved what does not exist.
                weight.after_step_()

    def _check_ranks(self) -> None:
        """Raise if processes that train together no longer agree which weights exist."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return
        mine = [_fingerprint(weight) for weight in self.weights]
        every: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(every, mine)
        if any(other != mine for other in every):
            raise RuntimeError(
                f"topologies differ between ranks after step {self.num_steps}; "
                "give the sparsifiers of all ranks generators with the same seed"
            )


def check_optimizer(weights: Sequence[Weight], optimizer: Optimizer) -> None:
    """Raise unless a sparsifier can take the weights and this optimizer.

    Raises:
        ValueError: see `Sparsifier`.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for weight in weights:
        if id(weight.parameter) not in held:
            raise ValueError(
                f"the optimizer does not hold {weight.name}; make the optimizer from this model's parameters, "
                "after the model was made sparse"
            )
        if is_held(weight):
            raise ValueError(f"another sparsifier holds {weight.name}; call its finalize() first")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS keeps its state in one flat vector that cannot follow a topology; use SGD or AdamW")


def _fingerprint(weight: Weight) -> str:
    columns = weight.closed_columns.numel()
    return topology.fingerprint(topology.from_linear(weight.indices(), (weight.shape[0], columns)))


def _weight_state(weight: MaskedWeight | SparseWeight) -> dict[str, Any]:
    state: dict[str, Any] = {
        "shape": list(weight.shape),
        "closed_rows": weight.closed_rows.clone(),
        "closed_columns": weight.closed_columns.clone(),
    }
    if isinstance(weight, MaskedWeight):
        # One bit an entry; a truly sparse weight has its topology in the model's own state.
        state["mask"] = torch.from_numpy(np.packbits(weight.mask.cpu().numpy().reshape(-1)))
        if weight.latent is not None:
            state["latent"] = weight.latent.clone()
    return state


def _keeps_latent(weight: MaskedWeight | SparseWeight) -> bool:
    return isinstance(weight, MaskedWeight) and weight.latent is not None


def _load_weight_state(weight: MaskedWeight | SparseWeight, state: Mapping[str, Any]) -> None:
    weight.closed_rows = state["closed_rows"].to(weight.closed_rows.device).clone()
    weight.closed_columns = state["closed_columns"].to(weight.closed_columns.device).clone()
    if isinstance(weight, MaskedWeight):
        bits = np.unpackbits(state["mask"].cpu().numpy(), count=weight.mask.numel()).astype(bool)
        weight.mask = torch.from_numpy(bits).view(weight.shape).to(weight.mask.device)
        if weight.latent is not None:
            weight.latent = state["latent"].to(weight.latent).clone()
