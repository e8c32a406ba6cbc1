import math

import pytest
import torch

from gossamer.growth import fan_in_uniform, fan_in_uniform_of
from gossamer.topology import erdos_renyi, row_indices


def test_values_fill_the_bound_of_their_output() -> None:
    rows = torch.tensor([0, 1]).repeat_interleave(5000)

    values = fan_in_uniform(rows, torch.tensor([6, 24]), generator=torch.Generator().manual_seed(0))

    assert values.dtype == torch.float32
    for row, bound in ((0, 1.0), (1, 0.5)):
        mine = values[rows == row]
        assert 0.99 * bound < float(mine.abs().max()) <= bound
        # uniform in +-b has a standard deviation of b / sqrt(3), a mean of 0
        assert float(mine.std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert abs(float(mine.mean())) < 0.03 * bound


def test_no_rows_no_values() -> None:
    assert (
        fan_in_uniform(torch.empty(0, dtype=torch.int64), torch.tensor([3]), generator=torch.Generator()).numel() == 0
    )


def test_an_output_without_inputs_counts_as_one_with_one_input() -> None:
    value = fan_in_uniform(torch.tensor([0]), torch.tensor([0]), generator=torch.Generator().manual_seed(0))

    assert float(value.abs()) <= math.sqrt(6)


def test_the_same_seed_draws_the_same_values_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()

    first, second, other = (
        fan_in_uniform(torch.zeros(9, dtype=torch.int64), torch.tensor([4]), generator=torch.Generator().manual_seed(s))
        for s in (5, 5, 6)
    )

    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_active", [0, 1, 7, 100_000])
def test_values_of_a_whole_layer_have_the_bits_of_those_by_row(num_active: int) -> None:
    places = erdos_renyi((500, 400), num_active, generator=torch.Generator().manual_seed(1))
    one, other = (torch.Generator().manual_seed(2) for _ in range(2))

    values = fan_in_uniform_of(places.row_pointers, generator=one)

    assert torch.equal(values, fan_in_uniform(row_indices(places), places.row_pointers.diff(), generator=other))
