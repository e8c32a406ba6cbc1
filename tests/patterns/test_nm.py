import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.patterns import nm


def test_two_of_four_by_hand() -> None:
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0]])

    kept = nm(2, 4).keep(scores, 8)

    assert kept.int().tolist() == [[1, 0, 1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 1, 1, 0, 0]]


def test_n_is_what_stays() -> None:
    assert nm(1, 4).keep(torch.tensor([[1.0, 2.0, 4.0, 3.0]]), 1).tolist() == [[False, False, True, False]]
    assert nm(1, 4).nearest((8, 16), 0) == 32


def test_the_inputs_of_a_convolution_compete_at_one_place_of_the_kernel() -> None:
    # two input channels, kernel of three: the larger channel of each place
    scores = torch.tensor([[[1.0, 5.0, 1.0], [2.0, 4.0, 0.0]]])

    assert nm(1, 2).keep(scores, 3).int().tolist() == [[[0, 1, 1], [1, 0, 0]]]


@pytest.mark.parametrize(("inputs", "kept"), [(4, 2), (5, 3), (6, 3), (7, 4), (8, 4), (9, 5)])
def test_the_last_stretch_keeps_its_share_rounded_up(inputs: int, kept: int) -> None:
    mask = nm(2, 4).keep(torch.arange(inputs).float().view(1, -1), kept)

    assert int(mask.sum()) == kept
    assert int(mask[0, :4].sum()) == 2


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 5),
    inputs=st.integers(1, 20),
    kernel=st.integers(1, 3),
    n=st.integers(1, 6),
    m=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_every_stretch_keeps_its_largest(rows: int, inputs: int, kernel: int, n: int, m: int, seed: int) -> None:
    n, m, inputs = min(n, m), m, max(m, inputs)
    scores = torch.randn(rows, inputs, kernel, generator=torch.Generator().manual_seed(seed))
    pattern = nm(n, m)

    kept = pattern.keep(scores, pattern.nearest(tuple(scores.shape), 0))

    for line, marks in zip(scores.mT.flatten(0, 1), kept.mT.flatten(0, 1), strict=True):
        for part, mark in zip(line.split(m), marks.split(m), strict=True):
            number = -(-n * part.numel() // m)
            assert part[mark].sort().values.tolist() == part.sort().values[part.numel() - number :].tolist()


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (-1, 4), (1, 0)])
def test_n_outside_one_to_m_is_refused(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"1 <= n <= m, got n={n} and m={m}"):
        nm(n, m)


def test_a_layer_with_fewer_inputs_than_m_is_refused_with_shape_and_remedy() -> None:
    for ask in (lambda: nm(2, 4).nearest((10, 3), 15), lambda: nm(2, 4).groups((10, 3))):
        with pytest.raises(
            ValueError, match=r"nm\(2, 4\) needs at least 4 inputs, .* \(10, 3\) has 3; leave this layer out"
        ):
            ask()
