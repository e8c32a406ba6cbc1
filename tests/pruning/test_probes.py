from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import criteria, statistics

DATA = [(torch.linspace(-1, 1, 24).view(6, 4).sin(), torch.tensor([0, 1, 2, 0, 1, 2]))]


def seen(**settings: Any) -> Tensor:
    """Return the curvatures that a criterion is given."""
    found: list[Tensor] = []

    def criterion(weight: Tensor, hessian_diagonal: Tensor) -> Tensor:
        found.append(hessian_diagonal)
        return criteria.obd(weight, hessian_diagonal)

    gs.prune(
        network(), sparsity=0.5, criterion=criterion, data=DATA, loss_fn=F.cross_entropy,
        generator=torch.Generator().manual_seed(3), **settings,
    )  # fmt: skip
    return found[0]


def network() -> nn.Module:
    return gs.models.mlp([4, 6, 3], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("settings", "num_probes"), [({}, 128), ({"num_probes": 3}, 3)])
def test_as_many_probes_are_drawn_as_were_asked_for(settings: dict[str, Any], num_probes: int) -> None:
    model = network()
    weights = {name: weight for name, weight in model.named_parameters() if weight.dim() > 1}
    expected = statistics.hessian_diagonal(
        model, weights, DATA, F.cross_entropy, generator=torch.Generator().manual_seed(3), num_probes=num_probes
    )

    assert torch.equal(seen(**settings), next(iter(expected.values())))


def test_no_probe_and_probes_that_nothing_asks_for_are_refused() -> None:
    with pytest.raises(ValueError, match="num_probes must be 1 or more, got 0"):
        seen(num_probes=0)
    with pytest.raises(ValueError, match="num_probes has no effect on magnitude, which asks for no hessian_diagonal"):
        gs.prune(network(), sparsity=0.5, num_probes=64)
