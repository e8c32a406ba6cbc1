from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import statistics


class Attends(nn.Module):
    """Attention whose heads can be turned down by hand, and a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True, dropout=0.5)
        self.head = nn.Linear(6, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.attention(inputs, inputs, inputs, need_weights=False)[0].mean(1))
        return outputs


@pytest.fixture
def attends() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Attends().double()


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 4, 6, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1])


def measured(model: Any, data: list[tuple[Tensor, Tensor]]) -> Tensor:
    weights = {"attention.out_proj.weight": model.attention.out_proj.weight}
    return statistics.head_gates(model, weights, data, F.cross_entropy)["attention.out_proj.weight"]


def test_gates_of_heads_are_the_derivatives_of_a_factor_on_each_head_s_output(attends: Any) -> None:
    inputs, targets = samples()
    found = measured(attends, [(inputs[:3], targets[:3]), (inputs[3:], targets[3:])])
    attends.eval()
    own, step = attends.attention, 1e-6
    query, key, value = F.linear(inputs, own.in_proj_weight, own.in_proj_bias).unflatten(-1, (3, 3, 2)).unbind(2)
    weights = torch.einsum("nqhd,nkhd->nhqk", query, key).div(2**0.5).softmax(-1)
    heads = torch.einsum("nhqk,nkhd->nqhd", weights, value)

    def losses(head: int, factor: float) -> Tensor:
        gates = torch.ones(3, 1, dtype=torch.float64)
        gates[head] = factor
        outputs = attends.head(own.out_proj((heads * gates).flatten(2)).mean(1))
        return F.cross_entropy(outputs, targets, reduction="none")

    slopes = [(losses(head, 1 + step) - losses(head, 1 - step)) / (2 * step) for head in range(3)]

    assert found.shape == (5, 3)
    assert torch.allclose(found, torch.stack(slopes, 1), rtol=1e-6, atol=1e-9)


def test_the_columns_of_one_head_lie_together() -> None:
    model: Any = Attends()
    with torch.no_grad():
        model.attention.out_proj.weight[:, 2:4] = 0.0
    inputs, targets = samples()
    found = measured(model, [(inputs.float(), targets)])

    assert (found[:, 1] == 0).all()
    assert (found[:, [0, 2]] != 0).all()


def test_only_output_projections_have_heads_and_the_model_stays(attends: Any) -> None:
    weights = {"attention.in_proj_weight": attends.attention.in_proj_weight}

    with pytest.raises(ValueError, match=r"attention\.in_proj_weight is no output projection .* include="):
        statistics.head_gates(attends, weights, [samples()], F.cross_entropy)
    measured(attends, [samples()])
    assert attends.training
    assert attends.head.weight.grad is None
