from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, recipes, schedules
from gossamer.models import mlp
from gossamer.updates import Momentum, Redistribute
from gossamer.weights import MaskedWeight
from gossamer.weights.tiles import GradientTiles

from .storage import dense_of, view_of
from .test_allot import dropped
from .test_redistribute import magnitude


class Recorded(MaskedWeight):  # type: ignore[misc]
    """A weight whose dense gradient is given, in two tiles, and by how much the optimizer's is larger."""

    given: Tensor
    factor = 1.0

    def see(self, given: Tensor) -> None:
        self.given, self.parameter.grad = given, (self.factor * given).masked_fill(~self.mask, 0.0)

    def gradient_tiles(self, *, whole_rows: bool = False) -> GradientTiles:
        rows, columns = self.given.shape
        return GradientTiles(lambda: iter([(0, self.given[:, :1]), (1, self.given[:, 1:])]), None, (rows, columns))


def recorded(name: str, values: list[list[float]]) -> Recorded:
    dense = torch.tensor(values)
    weight = Recorded(name, nn.Parameter(dense.clone()))
    weight.set_mask_(dense != 0)
    return weight


def look(momentum: Momentum, weights: list[Any], *gradients: list[Tensor]) -> None:
    optimizer = SGD([weight.parameter for weight in weights], lr=0.1)
    for step, tensors in enumerate(gradients, 1):
        for weight, tensor in zip(weights, tensors, strict=True):
            weight.see(tensor)
        assert momentum.apply_all(weights, step, optimizer=optimizer, generator=torch.Generator()) == []


def test_it_averages_the_dense_gradient() -> None:
    weight, momentum = recorded("w", [[1.0, 0.0], [0.0, 2.0]]), Momentum(decay=0.5, stop_step=9)
    momentum.begin([weight])
    look(momentum, [weight], [torch.tensor([[4.0, 8.0], [0.0, -4.0]])], [torch.tensor([[2.0, 2.0], [6.0, 0.0]])])

    assert momentum.state_dict()["w"].tolist() == [[2.0, 3.0], [3.0, -1.0]]


def test_a_gradient_that_was_scaled_on_its_way_counts_as_the_optimizer_has_it() -> None:
    weights, momentum = [recorded("a", [[1.0, 0.0]]), recorded("b", [[2.0, 0.0]])], Momentum(decay=0.5, stop_step=9)
    momentum.begin(list(weights))
    for weight in weights:
        weight.factor = 0.25
    look(momentum, weights, [torch.tensor([[16.0, 8.0]]), torch.tensor([[0.0, 4.0]])])
    assert [average.tolist() for average in momentum.state_dict().values()] == [[[2.0, 1.0]], [[0.0, 0.5]]]
    # No active weight has a gradient: by how much it was scaled is not known.
    look(momentum, weights, [torch.tensor([[0.0, 8.0]]), torch.tensor([[0.0, 4.0]])])

    assert [average.tolist() for average in momentum.state_dict().values()] == [[[1.0, 0.5]], [[0.0, 0.25]]]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clips", [False, True])
def test_the_scale_of_a_grad_scaler_may_change(fused: bool, clips: bool) -> None:
    averages = []
    for scales in ([1.0] * 4, [4.0, 1024.0, 2.0, 0.5]):
        model = mlp([10, 16, 4], generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
        generator = torch.Generator().manual_seed(1)
        sparsifier = recipes.snfs(model, optimizer, sparsity=0.8, update_every=2, stop_step=9, generator=generator)
        for scale in scales:
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            optimizer.zero_grad()
            loss = model(torch.randn(8, 10, generator=generator)).square().mean()
            scaler.scale(loss).backward()
            if clips:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.125)
            scaler.step(optimizer)
            sparsifier.step()
        averages.append(sparsifier.state_dict()["updates"]["0 Momentum"])

    assert sparsifier.num_steps == 4
    for name, average in averages[0].items():
        assert bool(average.any())
        torch.testing.assert_close(averages[1][name], average, rtol=1e-6, atol=1e-9)


def test_layers_share_by_their_mean_momentum_and_grow_where_it_is_largest() -> None:
    weights = [recorded("a", [[1.0, 2.0, 0.0, 0.0]]), recorded("b", [[3.0, 4.0, 5.0, 0.0, 0.0, 0.0]])]
    momentum = Momentum(decay=0.0, stop_step=9)
    momentum.begin(list(weights))
    first, second = torch.tensor([[1.0, -3.0, 0.5, -9.0]]), torch.tensor([[6.0, 6.0, -6.0, 0.1, -0.3, 0.2]])
    look(momentum, weights, [first, second])

    # means 2 and 6 of the active ones: of four one and three
    lost = dropped(list(weights), [[], [2]])
    assert momentum.allot(lost, torch.Generator()) == [1, 3]
    assert momentum.grow(weights[0], torch.tensor([1]), 2, torch.Generator()).tolist() == [0, 3]
    assert momentum.grow(weights[1], torch.tensor([0, 1, 2]), 2, torch.Generator()).tolist() == [4, 5]


def test_a_whole_update_on_paper() -> None:
    weights = [recorded("a", [[1.0, 2.0, 0.0, 0.0]]), recorded("b", [[3.0, 4.0, 5.0, 6.0, 0.0, 0.0]])]
    momentum = Momentum(decay=0.0, stop_step=9)
    momentum.begin(list(weights))
    look(momentum, weights, [torch.tensor([[9.0, 9.0, 2.0, 1.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0, 7.0, 8.0]])])
    update = Redistribute(
        drop=magnitude,
        grow=momentum.grow,
        allot=momentum.allot,
        drop_fraction=schedules.constant(0.5),
        update_every=1,
        stop_step=9,
    )
    optimizer = SGD([weight.parameter for weight in weights], lr=0.1)
    update.apply_all(list(weights), 1, optimizer=optimizer, generator=torch.Generator())

    # 1, 3 and 4 go; 0.9 and 0.1 of three are 2.7 and 0.3; what was 1 has the largest momentum of the first weight
    assert dense_of(weights[0]) == [[0.0, 2.0, 0.0, 0.0]]
    assert [weight.indices().tolist() for weight in weights] == [[0, 1, 2, 3], [2, 3]]


def test_a_truly_sparse_weight_is_refused_with_nothing_changed() -> None:
    model = mlp([6, 5, 4], sparsity=0.5, generator=torch.Generator())
    optimizer = SGD(model.parameters(), lr=0.1)
    text = r"0\.values is truly sparse, (but|and) .*dense gradient of every step; start from a dense model"
    with pytest.raises(ValueError, match=text):
        recipes.snfs(model, optimizer, sparsity=0.5, update_every=2, stop_step=9, generator=torch.Generator())
    with pytest.raises(ValueError, match="w is truly sparse, and the momentum of its absent entries takes"):
        Momentum(decay=0.9, stop_step=9).begin([view_of(torch.ones(2, 2), "truly sparse")[1]])

    assert not optimizer._optimizer_step_post_hooks
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_half_precision_is_averaged_in_full() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)).bfloat16()
    sparsifier = recipes.snfs(
        model, SGD(model.parameters(), lr=0.1), sparsity=0.5, update_every=2, stop_step=9, generator=torch.Generator()
    )

    state = sparsifier.state_dict()["updates"]["0 Momentum"]
    assert {average.dtype for average in state.values()} == {torch.float32}


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        Momentum(decay=decay, stop_step=3)


def test_convolutions_take_part() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier: Sparsifier = recipes.snfs(
        model, optimizer, sparsity=0.7, update_every=2, stop_step=9, generator=torch.Generator()
    )
    before, total = [weight.indices().tolist() for weight in sparsifier.weights], sparsifier.num_active()
    for step in range(4):
        optimizer.zero_grad()
        inputs = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        model(inputs).pow(2).sum().backward()
        optimizer.step()
        sparsifier.step()

    assert sparsifier.num_active() == total
    assert [weight.indices().tolist() for weight in sparsifier.weights] != before
