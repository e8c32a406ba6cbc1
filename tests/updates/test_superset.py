from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from gossamer import Sparsifier, budgets, recipes
from gossamer.updates import Superset
from gossamer.weights import MaskedWeight

from .storage import view_of


def superset(sparsity: float = 0.5, backward_sparsity: float = 0.25, **changed: Any) -> Superset:
    rules: dict[str, Any] = {"budget": budgets.uniform, "strength": 0.0, "update_every": 2, "stop_step": 9}
    return Superset(sparsity=sparsity, backward_sparsity=backward_sparsity, **(rules | changed))


def row(values: list[float], **settings: Any) -> tuple[nn.Linear, SGD, Sparsifier, MaskedWeight]:
    """Start Top-KAST on one output, whose gradient of weight j is input j."""
    layer = nn.Linear(len(values), 1, bias=False)
    layer.weight.data.copy_(torch.tensor([values]))
    optimizer = SGD(layer.parameters(), lr=1.0, weight_decay=settings.pop("weight_decay", 0.0), momentum=0.5)
    rules: dict[str, Any] = {"sparsity": 0.5, "backward_sparsity": 0.25, "strength": 0.0, "stop_step": 9}
    sparsifier = recipes.top_kast(layer, optimizer, **(rules | {"update_every": 2} | settings))
    weight = sparsifier.weights[0]
    assert isinstance(weight, MaskedWeight)
    return layer, optimizer, sparsifier, weight


def step(layer: nn.Linear, optimizer: SGD, sparsifier: Sparsifier, inputs: list[float]) -> Tensor:
    optimizer.zero_grad()
    output: Tensor = layer(torch.tensor([inputs]))
    output.sum().backward()
    optimizer.step()
    sparsifier.step()
    return output.detach()


def test_the_forward_set_computes_the_backward_set_learns_and_the_rest_stays() -> None:
    layer, optimizer, sparsifier, weight = row([4.0, 3.0, -2.0, 1.0], weight_decay=0.125)
    output = step(layer, optimizer, sparsifier, [1.0, 1.0, 1.0, 1.0])

    # w - 1 - w / 8 in B; the last weight is in neither set, and weight decay does not reach it
    assert output.item() == 7.0
    assert weight.dense_values().tolist() == [[2.5, 1.625, -2.75, 1.0]]
    assert layer.weight.tolist() == [[2.5, 1.625, 0.0, 0.0]]


def test_what_learned_out_of_sight_comes_in_with_its_momentum_and_what_leaves_forgets() -> None:
    layer, optimizer, sparsifier, weight = row([4.0, 3.0, -2.0, 1.0])
    step(layer, optimizer, sparsifier, [0.0, 1.0, 2.0, 5.0])
    output = step(layer, optimizer, sparsifier, [0.0, 1.0, 0.0, 5.0])

    # 3 - 1 - 1.5, and -2 - 2 - 1; now -5 computes, 0.5 is the least of all and its momentum goes
    assert output.item() == 2.0
    assert weight.dense_values().tolist() == [[4.0, 0.5, -5.0, 1.0]]
    assert weight.mask.tolist() == [[True, False, True, False]]
    assert weight.reach is not None
    assert weight.reach.tolist() == [[True, False, True, True]]
    assert optimizer.state[layer.weight]["momentum_buffer"].tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_the_penalty_is_larger_for_what_only_learns() -> None:
    layer, optimizer, sparsifier, weight = row([4.0, 3.0, -2.0, 1.0], strength=0.25)
    step(layer, optimizer, sparsifier, [0.0] * 4)

    assert weight.dense_values().tolist() == [[3.75, 2.75, -1.5, 1.0]]
    for _ in range(5):
        step(layer, optimizer, sparsifier, [0.0] * 4)
    # -2 is at -1 when the sets are chosen, a tie that the first place wins, and then at 0: now 1 learns, for two steps
    assert weight.dense_values().tolist() == [[2.5, 1.5, 0.0, 0.0]]


def test_sets_stay_from_the_stop_on_and_the_penalty_ends() -> None:
    layer, optimizer, sparsifier, weight = row([4.0, 3.0, -2.0, 1.0], strength=0.25, stop_step=2)
    step(layer, optimizer, sparsifier, [0.0] * 4)
    after = weight.dense_values().tolist()
    for _ in range(4):
        step(layer, optimizer, sparsifier, [0.0] * 4)

    assert weight.dense_values().tolist() == after
    assert sparsifier.state_dict()["updates"]["0 Superset"][weight.name].tolist() == [0b11100000]


def test_what_computes_learns_even_if_a_budget_says_otherwise() -> None:
    def odd(shapes: dict[str, Any], *, sparsity: float) -> dict[str, int]:
        return dict.fromkeys(shapes, 2 if sparsity == 0.5 else 1)

    _, _, sparsifier, weight = row([4.0, 3.0, -2.0, 1.0], budget=odd)

    assert weight.mask.tolist() == [[True, True, False, False]]
    assert [reach.tolist() for reach in reaches(sparsifier)] == [weight.mask.tolist()]


def reaches(sparsifier: Sparsifier) -> list[Tensor]:
    found = [weight.reach for weight in sparsifier.weights if isinstance(weight, MaskedWeight)]
    return [reach for reach in found if reach is not None]


def test_all_weights_compete_without_a_budget() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    for number, layer in enumerate(model):
        layer.weight.data.fill_(number + 1.0)  # type: ignore[operator]
    sparsifier = recipes.top_kast(
        model, SGD(model.parameters(), lr=0.1), sparsity=0.5, backward_sparsity=0.25, strength=0.0, stop_step=9,
        budget=None,
    )  # fmt: skip

    # twelve of 24 compute: the eight of the second and the first four of the first; six more learn
    assert [weight.num_active for weight in sparsifier.weights] == [4, 8]
    assert [int(reach.sum()) for reach in reaches(sparsifier)] == [10, 8]


def test_adam_moves_nothing_outside_of_the_backward_set() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    optimizer = AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    sparsifier = recipes.top_kast(
        model, optimizer, sparsity=0.8, backward_sparsity=0.5, strength=0.01, stop_step=99, update_every=3
    )
    weights = [weight for weight in sparsifier.weights if isinstance(weight, MaskedWeight)]
    for number in range(7):
        frozen = [weight.dense_values()[~(weight.mask if weight.reach is None else weight.reach)] for weight in weights]
        outside = [~weight.reach for weight in weights if weight.reach is not None]
        optimizer.zero_grad()
        model(torch.randn(6, 8, generator=torch.Generator().manual_seed(number)).double()).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()

        assert all(
            torch.equal(weight.dense_values()[places], before)
            for weight, places, before in zip(weights, outside, frozen, strict=True)
        )
        assert all(not weight.parameter.detach()[~weight.mask].any() for weight in weights)


def test_finalize_leaves_the_forward_set_alone() -> None:
    layer, _, sparsifier, weight = row([4.0, 3.0, -2.0, 1.0])
    sparsifier.finalize()

    assert layer.weight.tolist() == [[4.0, 3.0, 0.0, 0.0]]
    assert weight.reach is None
    assert not layer.weight._backward_hooks


def test_weights_without_latent_values_are_refused() -> None:
    for storage in ("masked", "truly sparse"):
        with pytest.raises(ValueError, match="w keeps no latent values"):
            superset().begin([view_of(torch.ones(2, 2), storage)[1]])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"backward_sparsity": 0.6}, r"backward_sparsity must lie in \[0, 0.5\] \(sparsity\), got 0.6"),
        ({"backward_sparsity": -0.1}, "backward_sparsity must lie in"),
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
        ({"strength": -1.0}, "strength must be 0 or more and finite"),
        ({"update_every": 0}, "update_every must be 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        superset(**changed)
