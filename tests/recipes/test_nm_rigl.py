import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import budgets, patterns, recipes, to_sparse
from gossamer.models import mlp
from gossamer.weights import MaskedWeight, SparseWeight

from .network import seeded


def mask_of(weight: MaskedWeight | SparseWeight) -> torch.Tensor:
    mask = torch.zeros(weight.shape, dtype=torch.bool)
    mask.view(-1)[weight.indices()] = True
    return mask


def is_nm(mask: torch.Tensor, n: int, m: int) -> bool:
    """Tell whether the pattern would keep exactly this mask."""
    return torch.equal(patterns.nm(n, m).keep(mask.float(), int(mask.sum())), mask)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5)
        ).double()


def test_of_every_m_inputs_exactly_n_exist_after_every_step_in_both_storages() -> None:
    masked = network()
    # to_sparse leaves what is dense: the first layer has three inputs and stays out.
    held = SGD(masked.parameters(), lr=0.05, momentum=0.9)
    one = recipes.nm_rigl(masked, held, update_every=2, stop_step=20, generator=seeded())
    sparse = to_sparse(masked)
    held_too = SGD(sparse.parameters(), lr=0.05, momentum=0.9)
    other = recipes.nm_rigl(sparse, held_too, update_every=2, stop_step=20, generator=seeded())
    first = [weight.indices().tolist() for weight in one.weights]
    for step in range(1, 11):
        for model, optimizer, sparsifier in ((masked, held, one), (sparse, held_too, other)):
            optimizer.zero_grad()
            model(torch.randn(6, 3, 5, 5, generator=seeded(step)).double()).pow(2).mean().backward()
            optimizer.step()
            sparsifier.step()
        for mine, theirs in zip(one.weights, other.weights, strict=True):
            assert torch.equal(mine.indices(), theirs.indices())
        assert [weight.num_active for weight in one.weights] == [216, 216, 135]
        assert all(is_nm(mask_of(weight), 2, 4) for weight in one.weights[1:])
    assert [isinstance(weight, SparseWeight) for weight in other.weights] == [False, True, True]
    assert all(weight.indices().tolist() != before for weight, before in zip(one.weights[1:], first[1:], strict=True))


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 7), (1, 20), (4, 4)])
def test_a_truly_sparse_model_is_brought_into_the_pattern(n: int, m: int) -> None:
    model = mlp([20, 30, 4], sparsity=0.7, budget=budgets.uniform, generator=seeded())
    sparsifier = recipes.nm_rigl(
        model, SGD(model.parameters(), lr=0.1), n=n, m=m, update_every=2, stop_step=9, generator=seeded()
    )

    for weight in sparsifier.weights:
        assert is_nm(mask_of(weight), n, m)
        assert weight.num_active == patterns.nm(n, m).nearest(weight.shape, 0)


def test_the_signal_keeps_its_scale() -> None:
    model = nn.Linear(8, 3)
    before = model.weight.detach().clone()
    (weight,) = recipes.nm_rigl(model, SGD(model.parameters(), lr=0.1), stop_step=9, generator=seeded()).weights

    torch.testing.assert_close(weight.values(), before.view(-1)[weight.indices()] * 2**0.5)


def test_a_pattern_that_no_weight_can_take_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3))

    with pytest.raises(ValueError, match=r"no weight has 4 inputs or more, so nm\(2, 4\) has no effect"):
        recipes.nm_rigl(model, SGD(model.parameters(), lr=0.1), stop_step=9, generator=seeded())
    with pytest.raises(ValueError, match="1 <= n <= m, got n=5 and m=4"):
        recipes.nm_rigl(model, SGD(model.parameters(), lr=0.1), stop_step=9, n=5, generator=seeded())
