"""N:M RigL: drop the smallest weights, grow by gradient among the same few inputs, so that n of each m exist."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import criteria, masks, patterns, schedules
from gossamer.recipes.grouped_start import draw_in_groups, fill_groups_
from gossamer.sparsifier import Sparsifier, check_optimizer
from gossamer.updates import ExchangeInGroups
from gossamer.weights import MaskedWeight, Weight, prunable


def nm_rigl(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    stop_step: int,
    generator: torch.Generator,
    n: int = 2,
    m: int = 4,
    update_every: int = 100,
    drop_fraction: float = 0.3,
) -> Sparsifier:
    """Train sparse from the start as RigL does, with exactly n of each m consecutive inputs of a neuron at every step.

    drop: the smallest |w| of the whole layer
    grow: in each group of m as many as it lost, where |gradient| is largest

    Weights with fewer than m inputs stay as they are. How sparse the others are follows from n and m.

    Args:
        model: dense (then weights are masked) or truly sparse: of full groups the smallest weights go, and random ones
            come in others.
        optimizer: holds the model's parameters.
        stop_step: the last update comes before this step; see `rigl`.
        generator: source of randomness, on the CPU.
        n: entries that exist of each m, 1 <= n <= m; see `patterns.nm`, also for a number of inputs that m does not
            divide.
        m: consecutive inputs that exchange, >= 1; of a convolution, at one place of the kernel.
        update_every: steps between two updates.
        drop_fraction: fraction exchanged at first, in [0, 1].

    Raises:
        ValueError: n or m out of range, an unfit optimizer, or no weight with m inputs.

    Source:
        The constraint of Zhou, Ma, Zhu, Liu, Zhang, Yuan, Sun, Li. Learning N:M fine-grained structured sparse neural
        networks from scratch. ICLR 2021, arXiv:2102.04010; the method of Evci et al. 2020, arXiv:1911.11134, kept
        within groups as Lasby et al. 2024, arXiv:2305.02299, keep it within neurons.
        Differs: the three are joined here; the first trains dense weights by a straight-through estimator instead.
    """
    pattern = patterns.nm(n, m)

    def groups(shape: tuple[int, ...]) -> Tensor | None:
        return _groups(shape, m) if len(shape) > 1 and shape[1] >= m else None

    update = ExchangeInGroups(
        drop=criteria.magnitude,
        groups=groups,
        drop_fraction=schedules.cosine(drop_fraction, 0.0, stop_step),
        update_every=update_every,
        stop_step=stop_step,
    )
    weights = prunable(model)
    check_optimizer(weights, optimizer)
    if all(groups(weight.shape) is None for weight in weights):
        raise ValueError(f"no weight has {m} inputs or more, so {pattern} has no effect; choose a smaller m")
    for weight in weights:
        if (of_columns := groups(weight.shape)) is not None:
            _start_(weight, pattern, of_columns, optimizer, generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)


def _groups(shape: tuple[int, ...], m: int) -> Tensor:
    """The group of each column of the matrix [out, in * kernel]: m input channels at one place of the kernel."""
    places = torch.Size(shape[2:]).numel()
    column = torch.arange(shape[1] * places)
    return column // places // m * places + column % places


def _start_(
    weight: Weight, pattern: patterns.Pattern, groups: Tensor, optimizer: Optimizer, generator: torch.Generator
) -> None:
    # What the pattern keeps of any one row says how many each group has.
    row = pattern.keep(torch.zeros(1, *weight.shape[1:]), pattern.nearest((1, *weight.shape[1:]), 0)).flatten()
    counts = torch.zeros(int(groups.max()) + 1, dtype=torch.int64).index_add_(0, groups, row.long())
    each = counts.expand(weight.shape[0], -1)
    if isinstance(weight, MaskedWeight) and weight.num_active == weight.mask.numel():
        weight.set_mask_(draw_in_groups(weight.shape, groups, each, generator=generator))
        weight.parameter.data.mul_(masks.fan_in_scale(weight.mask).to(weight.parameter.dtype))
        return
    device = weight.parameter.device
    each = each.to(device).masked_fill(weight.closed_rows[:, None], 0)
    fill_groups_(weight, groups.to(device), each, optimizer, generator=generator)
