import pytest
import torch
from torch import Tensor

from gossamer import growth


def none_of(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool)


def grow(gradient: Tensor, kept: Tensor, *, count: int, num_candidates: int, seed: int = 0) -> Tensor:
    return growth.guided(
        lambda places: gradient.flatten()[places],
        kept,
        none_of(gradient.shape[0]),
        none_of(gradient.shape[1]),
        count=count,
        num_candidates=num_candidates,
        generator=torch.Generator().manual_seed(seed),
    )


def test_growth_is_the_top_k_of_the_candidates_that_the_seed_draws() -> None:
    gradient = torch.randn(30, 40, generator=torch.Generator().manual_seed(1))
    kept = torch.arange(0, 1200, 5)
    drawn = growth.random(kept, none_of(30), none_of(40), count=100, generator=torch.Generator().manual_seed(7))

    grown = grow(gradient, kept, count=20, num_candidates=100, seed=7)

    best = gradient.flatten()[drawn].abs().topk(20).indices
    assert grown.tolist() == sorted(drawn[best].tolist())


@pytest.mark.parametrize("num_candidates", [960, 10**6])
def test_with_all_absent_entries_as_candidates_it_is_growth_by_the_gradient(num_candidates: int) -> None:
    gradient = torch.randint(-9, 9, (30, 40), generator=torch.Generator().manual_seed(1)).float()
    kept = torch.arange(0, 1200, 5)

    grown = grow(gradient, kept, count=50, num_candidates=num_candidates)

    assert torch.equal(grown, growth.gradient([(0, gradient)], kept, none_of(30), none_of(40), count=50))


def test_fewer_candidates_than_wanted_are_as_many_as_wanted() -> None:
    kept = torch.arange(0, 1200, 5)

    grown = grow(torch.ones(30, 40), kept, count=50, num_candidates=0, seed=3)

    drawn = growth.random(kept, none_of(30), none_of(40), count=50, generator=torch.Generator().manual_seed(3))
    assert torch.equal(grown, drawn)


def test_the_gradient_is_asked_for_candidates_alone_and_not_at_all_for_none() -> None:
    asked: list[Tensor] = []

    def slope(places: Tensor) -> Tensor:
        asked.append(places)
        return places.double()

    for count in (3, 0):
        growth.guided(
            slope,
            torch.tensor([4]),
            none_of(100),
            none_of(100),
            count=count,
            num_candidates=8,
            generator=torch.Generator().manual_seed(0),
        )

    assert [places.numel() for places in asked] == [8]
    assert bool((asked[0].diff() > 0).all())


def test_a_nan_at_a_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        grow(torch.full((3, 3), float("nan")), torch.tensor([0]), count=1, num_candidates=4)
