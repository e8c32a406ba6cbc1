import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import Sparsifier, recipes
from gossamer.models import mlp
from gossamer.weights import MaskedWeight

from .network import SIZES, seeded


def row(values: list[float], *, kept: int) -> tuple[nn.Linear, SGD, Sparsifier]:
    """Start DNW on one output whose gradient of weight j is input j."""
    layer = nn.Linear(len(values), 1, bias=False)
    layer.weight.data = torch.tensor([values])
    optimizer = SGD(layer.parameters(), lr=1.0)
    return layer, optimizer, recipes.dnw(layer, optimizer, sparsity=1 - kept / len(values))


def step(layer: nn.Module, optimizer: SGD, sparsifier: Sparsifier, inputs: list[float]) -> None:
    optimizer.zero_grad()
    layer(torch.tensor([inputs])).sum().backward()
    optimizer.step()
    sparsifier.step()


def test_only_the_largest_exist_from_the_first_step() -> None:
    layer, _, sparsifier = row([3.0, -4.0, 1.0, 2.0], kept=2)

    assert layer.weight.tolist() == [[3.0, -4.0, 0.0, 0.0]]
    assert sparsifier.num_active() == 2


def test_an_absent_edge_learns_and_takes_the_place_of_one_that_became_smaller() -> None:
    layer, optimizer, sparsifier = row([3.0, 2.0, 1.0], kept=1)

    step(layer, optimizer, sparsifier, [2.5, -5.0, 0.0])

    # 3 - 2.5 and 2 + 5
    assert layer.weight.tolist() == [[0.0, 7.0, 0.0]]
    step(layer, optimizer, sparsifier, [-8.0, 1.0, 0.0])
    # 0.5 + 8 was not forgotten, and 7 - 1 is the smaller
    assert layer.weight.tolist() == [[8.5, 0.0, 0.0]]


def test_it_is_the_top_k_of_a_dense_network_trained_by_the_gradient_of_the_sparse_one() -> None:
    model = mlp(SIZES, generator=seeded()).double()
    shadow = [layer.weight.detach().clone() for layer in model if isinstance(layer, nn.Linear)]
    optimizer = SGD(model.parameters(), lr=0.05)
    sparsifier = recipes.dnw(model, optimizer, sparsity=0.75)
    for number in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, SIZES[0], generator=seeded(number)).double()).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
        for dense, weight in zip(shadow, sparsifier.weights, strict=True):
            assert isinstance(weight, MaskedWeight)
            assert weight.parameter.grad is not None
            dense -= 0.05 * weight.parameter.grad
            expected = torch.zeros_like(dense)
            places = dense.abs().flatten().topk(dense.numel() // 4).indices
            expected.view(-1)[places] = dense.flatten()[places]

            torch.testing.assert_close(weight.parameter.detach(), expected)


def test_after_the_stop_the_topology_stays() -> None:
    layer, optimizer, sparsifier = row([3.0, 2.0, 1.0], kept=1)
    sparsifier.finalize()
    layer.weight.data = torch.tensor([[3.0, 2.0, 1.0]])
    sparsifier = recipes.dnw(layer, optimizer, sparsity=2 / 3, stop_step=1)

    step(layer, optimizer, sparsifier, [0.0, 0.0, 0.0])
    step(layer, optimizer, sparsifier, [2.9, 0.0, 0.0])

    assert layer.weight.tolist() == [[pytest.approx(0.1), 0.0, 0.0]]


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\)"), ({"sparsity": 0.5, "stop_step": 0}, "stop_step must be 1")],
)
def test_settings_out_of_range_change_nothing(settings: dict[str, float], text: str) -> None:
    model = mlp(SIZES, generator=seeded())
    before = [parameter.clone() for parameter in model.parameters()]

    with pytest.raises(ValueError, match=text):
        recipes.dnw(model, SGD(model.parameters(), lr=0.1), **settings)  # type: ignore[arg-type]
    for parameter, was in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, was)
