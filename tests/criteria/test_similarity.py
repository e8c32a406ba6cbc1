import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.criteria import similarity

from .network import noise

_FEW = settings(deadline=None, max_examples=60, derandomize=True)
_SEEDS = st.integers(0, 1000)


def test_a_unit_scores_its_distance_to_the_nearest_by_how_much_it_is_read() -> None:
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
    outgoing = torch.tensor([[2.0, 1.0, 0.0], [4.0, 3.0, 2.0]])

    # <a^2> = 10, 5, 2; squared distances to the nearest = 25, 1, 1
    assert similarity(weight, outgoing).tolist() == [250.0, 5.0, 2.0]


@_FEW
@given(units=st.integers(2, 6), fan_in=st.integers(1, 4), readers=st.integers(1, 3), seed=_SEEDS)
def test_scores_are_the_smallest_entries_of_the_paper_s_columns(
    units: int, fan_in: int, readers: int, seed: int
) -> None:
    weight, outgoing = noise(units, fan_in, seed=seed), noise(readers, units, seed=seed + 1)
    columns = [
        min(
            float(outgoing[:, j].square().mean() * (weight[i] - weight[j]).square().sum())
            for i in range(units)
            if i != j
        )
        for j in range(units)
    ]

    torch.testing.assert_close(similarity(weight, outgoing), torch.tensor(columns), rtol=1e-6, atol=0.0)


@_FEW
@given(seed=_SEEDS)
def test_merging_a_unit_into_the_most_similar_changes_outputs_no_more_than_its_score(seed: int) -> None:
    weight, outgoing, inputs = noise(4, 3, seed=seed), noise(2, 4, seed=seed + 1), noise(8, 3, seed=seed + 2)
    scores = similarity(weight, outgoing)

    for gone in range(4):
        change = outputs(weight, outgoing, inputs) - outputs(weight, merged(weight, outgoing, gone), inputs)
        bound = float(scores[gone]) * inputs.square().sum(1)

        assert (change.square().mean(1) <= bound * (1 + 1e-6)).all()


def outputs(weight: Tensor, outgoing: Tensor, inputs: Tensor) -> Tensor:
    return (inputs @ weight.t()).relu() @ outgoing.t()


def merged(weight: Tensor, outgoing: Tensor, gone: int) -> Tensor:
    """Return the outgoing weights after the unit's most similar one has taken over its readers."""
    distances = (weight - weight[gone]).square().sum(1)
    distances[gone] = torch.inf
    result = outgoing.clone()
    result[:, distances.argmin()] += outgoing[:, gone]
    result[:, gone] = 0.0
    return result


def test_twins_cost_nothing_however_large_their_weights_and_many_the_units() -> None:
    half = 1000.0 * noise(20, 7, seed=0)

    assert similarity(torch.cat([half, half]), torch.ones(3, 40)).tolist() == [0.0] * 40


def test_a_unit_that_nothing_reads_costs_nothing() -> None:
    assert similarity(torch.eye(3), torch.zeros(0, 3)).tolist() == [0.0] * 3
    assert similarity(torch.eye(2), torch.tensor([[0.0, 1.0]])).tolist() == [0.0, 2.0]


def test_a_lone_unit_is_compared_with_zero() -> None:
    assert similarity(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]])).tolist() == [100.0]


def test_kernels_of_convolutions_count_as_rows() -> None:
    weight, outgoing = noise(4, 2, 3, 3, seed=0), noise(5, 4, 2, 2, seed=1)
    readers = outgoing.permute(0, 2, 3, 1).flatten(0, 2)

    assert torch.equal(similarity(weight, outgoing), similarity(weight.flatten(1), readers))
