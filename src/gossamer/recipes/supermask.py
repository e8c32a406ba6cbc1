"""Supermasks: frozen weights under a mask that is drawn anew at each step, from learned probabilities."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer import budgets, counts
from gossamer.weights import MaskedWeight, prunable

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def supermask_(model: nn.Module, *, generator: torch.Generator, first_probability: float = 0.5) -> None:
    """Freeze all of a model and let it learn, for each weight, the probability that it exists.

    train: w' = w m, m = 1 with probability sigmoid(v);  dL/dv = dL/dw' * w * sigmoid'(v)
    eval: w' = w where the probability is at least a half, else 0

    How many weights exist comes out of the training. Make the optimizer afterwards, of the parameters that are
    trained; its learning rate is large. End with `finish_`.

    Args:
        model: dense, with first values; the paper does best where all of a layer have one size.
        generator: source of randomness for the masks, on the CPU; its state is saved with that of the model.
        first_probability: of each weight, between 0 and 1.

    Raises:
        ValueError: a probability outside (0, 1), a truly sparse layer, a weight shared with a layer that has no mask,
            or the model is masked so already.

    Source:
        Zhou, Lan, Liu, Yosinski. Deconstructing lottery tickets: zeros, signs, and the supermask. NeurIPS 2019,
        arXiv:1905.01067.
        Differs: a fixed mask for evaluation, where the paper draws; weights are not rescaled by the share that exists.
    """
    if not 0.0 < first_probability < 1.0:
        raise ValueError(f"first_probability must lie between 0 and 1, got {first_probability}; 0.5 is even chance")
    logit = math.log(first_probability / (1 - first_probability))

    def score(name: str, weight: Tensor, kept: int) -> nn.Module:
        return _Chance(torch.full_like(weight, logit), generator)

    freeze_and_mask_(model, score, sparsity=0.0, budget=budgets.uniform)


def finish_(model: nn.Module) -> None:
    """Make the masks of `edge_popup_` or `supermask_` permanent: exact zeros in plain layers, still frozen.

    Args:
        model: masked by one of the two.

    Raises:
        ValueError: it is not.

    Source:
        Ramanujan et al. What's hidden in a randomly weighted neural network? CVPR 2020, arXiv:1911.13299.
    """
    masked = [module for module in model.modules() if _is_masked(module)]
    if not masked:
        raise ValueError(f"no layer of {type(model).__name__} has a learned mask; call edge_popup_ or supermask_ first")
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
    holders = {weight.name: _holders(model, weight.name, weight.parameter) for weight in weights}
    kept = budget({weight.name: weight.shape for weight in weights}, sparsity=sparsity)
    if sparse := [weight.name for weight in weights if not isinstance(weight, MaskedWeight)]:
        raise ValueError(f"{', '.join(sparse)} is truly sparse; a mask is learned on a dense model")
    model.requires_grad_(False)
    for weight in weights:
        mask = make_mask(weight.name, weight.parameter.detach(), kept[weight.name])
        for module in holders[weight.name]:
            parametrize.register_parametrization(module, "weight", mask)


def straight_through(weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the masked weight; the gradient passes to all scores as if the mask were they themselves.

    Args:
        weight: frozen, shape [*].
        scores: shape [*].
        mask: bool, shape [*].
    """
    result: Tensor = _StraightThrough.apply(weight, scores, mask)
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight.masked_fill(~mask, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return None, gradients[0] * weight, None


class _Chance(nn.Module):
    """Draw a mask in training, and take what is likely in evaluation."""

    def __init__(self, logits: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self._generator = generator

    def forward(self, weight: Tensor) -> Tensor:
        probability = self.logits.sigmoid()
        if not self.training:
            return straight_through(weight, probability, self.logits.detach() >= 0)
        drawn = torch.rand(weight.shape, generator=self._generator, dtype=torch.float32).to(weight.device)
        return straight_through(weight, probability, drawn < probability.detach())

    def get_extra_state(self) -> Tensor:
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self._generator.set_state(state.cpu())


def _is_masked(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    masks = module.get_submodule("parametrizations.weight").children()
    return any(hasattr(mask, "scores") or isinstance(mask, _Chance) for mask in masks)


def _holders(model: nn.Module, name: str, weight: Tensor) -> list[nn.Module]:
    """The layers that have this weight."""
    found = [
        (module, key)
        for module in model.modules()
        for key, parameter in module._parameters.items()
        if parameter is weight
    ]
    if others := [type(module).__name__ for module, key in found if key != "weight" or not isinstance(module, _LAYERS)]:
        raise ValueError(f"{name} is shared with {', '.join(others)}, which cannot have its mask; untie it")
    return [module for module, _ in found]
