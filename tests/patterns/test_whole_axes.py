import pytest
import torch

from gossamer.patterns import Pattern, column, constant_fan_in, filters, kernels, row, unstructured

SCORES = torch.tensor([[9.0, 0.0, 0.0], [4.0, 4.0, 3.0]])


def test_row_keeps_the_output_with_the_largest_sum() -> None:
    assert row().keep(SCORES, 3).int().tolist() == [[0, 0, 0], [1, 1, 1]]


def test_column_keeps_the_inputs_with_the_largest_sums() -> None:
    assert column().keep(SCORES, 4).int().tolist() == [[1, 1, 0], [1, 1, 0]]


def test_constant_fan_in_keeps_the_largest_of_each_output() -> None:
    assert constant_fan_in().keep(SCORES, 4).int().tolist() == [[1, 1, 0], [1, 1, 0]]
    assert constant_fan_in().keep(-SCORES, 2).int().tolist() == [[0, 1, 0], [0, 0, 1]]


def test_unstructured_keeps_the_largest_of_all() -> None:
    assert unstructured().keep(SCORES, 3).int().tolist() == [[1, 0, 0], [1, 1, 0]]


def test_filters_are_rows_and_kernels_are_slices() -> None:
    scores = torch.tensor([[[3.0, 3.0], [1.0, 1.0]], [[0.0, 0.0], [5.0, 4.0]]])

    assert filters().keep(scores, 4).int().tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert kernels().keep(scores, 4).int().tolist() == [[[1, 1], [0, 0]], [[0, 0], [1, 1]]]
    assert kernels().groups((2, 2, 2)).tolist() == [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]
    assert torch.equal(row().groups((3, 2, 2)), filters().groups((3, 2, 2)))


def test_an_input_feature_of_a_convolution_is_one_channel_at_one_place() -> None:
    assert column().groups((2, 2, 2)).tolist() == [[[0, 1], [2, 3]], [[0, 1], [2, 3]]]


@pytest.mark.parametrize(
    ("asked", "nearest"), [(0, 0), (1, 10), (14, 10), (15, 10), (16, 20), (25, 20), (99, 100), (100, 100)]
)
def test_the_nearest_number_of_rows(asked: int, nearest: int) -> None:
    assert row().nearest((10, 10), asked) == nearest


@pytest.mark.parametrize(("pattern", "remedy"), [(filters(), r"row\(\)"), (kernels(), r"unstructured\(\)")], ids=str)
def test_patterns_of_convolutions_refuse_linear_weights(pattern: Pattern, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"needs the weight of a convolution, .* shape \(3, 4\); .*{remedy}"):
        pattern.nearest((3, 4), 6)


def test_large_scores_of_half_precision_do_not_overflow() -> None:
    scores = torch.tensor([[60000.0, 60000.0], [60000.0, 60000.0], [1.0, 1.0]], dtype=torch.float16)

    assert row().keep(scores, 2).any(1).tolist() == [True, False, False]
    scores[1, 1] = 60032.0  # the next number of half precision
    assert row().keep(scores, 2).any(1).tolist() == [False, True, False]
