"""Learned masks on frozen weights: what edge-popup and supermasks share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer import budgets, counts, masks
from gossamer.weights import MaskedWeight, prunable

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def finish_(model: nn.Module) -> None:
    """Make the masks of `edge_popup_` or `supermask_` permanent: exact zeros in plain layers, still frozen.

    Args:
        model: masked by one of the two.

    Raises:
        ValueError: it is not, or a score is NaN. Nothing is changed then.

    Source:
        Ramanujan et al. What's hidden in a randomly weighted neural network? CVPR 2020, arXiv:1911.13299.
    """
    masked = [module for module in model.modules() if _is_masked(module)]
    if not masked:
        raise ValueError(f"no layer of {type(model).__name__} has a learned mask; call edge_popup_ or supermask_ first")
    _check_scores(masked)
    for module in masked:
        # A mask that is drawn at each step of training is not for keeping.
        module.get_submodule("parametrizations.weight").eval()
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def freeze_and_mask_(
    model: nn.Module,
    make_mask: Callable[[str, Tensor, int], nn.Module],
    *,
    sparsity: float,
    budget: budgets.Budget,
) -> None:
    """Freeze all parameters and put a learned mask on each weight; one that layers share has one mask.

    Args:
        model: dense.
        make_mask: (name, weight, number of weights to keep) -> module from weight to masked weight.
        sparsity: fraction of the weights that do not exist, in [0, 1).
        budget: splits what is kept over the weights.

    Raises:
        ValueError: see `edge_popup_`.
    """
    counts.check_sparsity(sparsity)
    if any(_is_masked(module) for module in model.modules()):
        raise ValueError(f"{type(model).__name__} has learned masks already; call finish_ first")
    weights = prunable(model)
    if sparse := [weight.name for weight in weights if not isinstance(weight, MaskedWeight)]:
        raise ValueError(f"{', '.join(sparse)} is truly sparse; a mask is learned on a dense model")
    holders = {weight.name: layers_with(model, weight.name, weight.parameter) for weight in weights}
    kept = budget({weight.name: weight.shape for weight in weights}, sparsity=sparsity)
    for weight in weights:
        if not 0 <= kept.get(weight.name, -1) <= weight.parameter.numel():
            raise ValueError(
                f"the budget keeps {kept.get(weight.name)} of the {weight.parameter.numel()} weights of {weight.name}; "
                "it must give each a count from 0 to its size"
            )
    made = {weight.name: make_mask(weight.name, weight.parameter.detach(), kept[weight.name]) for weight in weights}
    model.requires_grad_(False)
    for name, mask in made.items():
        for module in holders[name]:
            parametrize.register_parametrization(module, "weight", mask)


def straight_through(weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the masked weight; the gradient passes to all scores as if the mask were they themselves.

    Args:
        weight: frozen, shape [*].
        scores: shape [*].
        mask: bool, shape [*].
    """
    result: Tensor = _StraightThrough.apply(weight, scores, mask)  # type: ignore[no-untyped-call]
    return result


class TopScores(nn.Module):
    """Keep the weights with the largest scores.

    Args:
        scores: first scores, the weight's shape, larger = keep.
        num_active: how many weights to keep.
    """

    def __init__(self, scores: Tensor, num_active: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.num_active = num_active

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight."""
        return straight_through(weight, self.scores, masks.keep_largest(self.scores, self.num_active))


class Chance(nn.Module):
    """Draw a mask in training, and take what is likely in evaluation.

    Args:
        logits: of the probability that each weight exists, the weight's shape.
        generator: source of randomness, on the CPU; its state is saved with the module's.
    """

    def __init__(self, logits: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self._generator = generator

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight."""
        probability = self.logits.sigmoid()
        if not self.training:
            return straight_through(weight, probability, self.logits.detach() >= 0)
        drawn = torch.rand(weight.shape, generator=self._generator, dtype=torch.float32, device="cpu").to(weight.device)
        return straight_through(weight, probability, drawn < probability.detach())

    def get_extra_state(self) -> Tensor:
        """Return the state of the generator."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Take the state of a generator."""
        self._generator.set_state(state.cpu())


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight.masked_fill(~mask, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return None, gradients[0] * weight, None


def _is_masked(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    learned = module.get_submodule("parametrizations.weight").children()
    return any(isinstance(mask, (TopScores, Chance)) for mask in learned)


def _check_scores(masked: list[nn.Module]) -> None:
    for module in masked:
        for mask in module.get_submodule("parametrizations.weight").children():
            if any(bool(scores.isnan().any()) for scores in mask.parameters()):
                raise ValueError(
                    f"scores of a {type(module).__name__} are NaN, so nobody knows which weights exist; check the data "
                    "and the learning rate, or load a good checkpoint"
                )


def layers_with(model: nn.Module, name: str, weight: Tensor) -> list[nn.Module]:
    """Return the layers that have a weight.

    Args:
        model: that it is of.
        name: of the weight, for errors.
        weight: the parameter.

    Raises:
        ValueError: something else than a Linear or Conv has it.
    """
    found = [
        (module, key)
        for module in model.modules()
        for key, parameter in module._parameters.items()
        if parameter is weight
    ]
    if not any(isinstance(module, _LAYERS) for module, _ in found):
        raise ValueError(
            f"{name} is of {type(found[0][0]).__name__}, which cannot be parametrized here; Linear and Conv can"
        )
    if others := [type(module).__name__ for module, key in found if key != "weight" or not isinstance(module, _LAYERS)]:
        raise ValueError(f"{name} is shared with {', '.join(others)}, which cannot have its mask; untie it")
    return [module for module, _ in found]
