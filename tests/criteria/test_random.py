import torch

from gossamer.criteria import random


def test_scores_come_from_the_generator_and_not_from_the_weight() -> None:
    first = random(torch.zeros(3, 4), generator=torch.Generator().manual_seed(1))
    second = random(torch.randn(3, 4, dtype=torch.float64), generator=torch.Generator().manual_seed(1))

    assert torch.equal(first, second)


def test_a_second_draw_from_one_generator_is_another() -> None:
    generator = torch.Generator().manual_seed(1)

    assert not torch.equal(random(torch.zeros(9), generator=generator), random(torch.zeros(9), generator=generator))


def test_draws_fill_the_unit_interval_evenly() -> None:
    scores = random(torch.zeros(100, 100), generator=torch.Generator().manual_seed(2))
    tenths = torch.histc(scores, bins=10, min=0.0, max=1.0)

    # 1000 each with a standard deviation of 30.
    assert scores.min() >= 0.0
    assert scores.max() < 1.0
    assert ((tenths - 1000).abs() < 150).all()
