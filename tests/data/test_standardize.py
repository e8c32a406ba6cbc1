import pytest
import torch

from gossamer.data import Dataset
from gossamer.data.standardize import standardize_inputs


def standardized(train: list[list[float]], test: list[list[float]]) -> Dataset:
    return standardize_inputs(
        Dataset(
            name="toy",
            train_inputs=torch.tensor(train),
            train_targets=torch.arange(len(train)) % 2,
            test_inputs=torch.tensor(test),
            test_targets=torch.arange(len(test)) % 2,
            num_classes=2,
            sample_shape=(len(train[0]),),
            source="by hand",
        )
    )


def test_mean_and_deviation_are_those_of_the_training_rows() -> None:
    data = standardized([[1.0], [3.0], [5.0], [7.0]], [[4.0], [4.0 + 5.0**0.5]])

    # mean 4, deviation sqrt((9 + 1 + 1 + 9) / 4) = sqrt(5)
    assert data.train_inputs.flatten().tolist() == pytest.approx([-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5])
    assert data.test_inputs.flatten().tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e-30, 1e30])
def test_a_feature_constant_in_training_becomes_0_everywhere(constant: float) -> None:
    data = standardized([[constant, 0.0]] * 6 + [[constant, 1.0]], [[constant, 0.0], [constant + 5.0, 0.0]])

    assert data.train_inputs[:, 0].tolist() == [0.0] * 7
    assert data.test_inputs[:, 0].tolist() == [0.0, 0.0]


def test_a_large_offset_costs_no_precision() -> None:
    # The mean, 16777214.5, is no float32.
    data = standardized([[16777214.0], [16777215.0]] * 5000, [[1.0]])

    assert data.train_inputs[:2].flatten().tolist() == [-1.0, 1.0]


def test_the_given_data_set_is_untouched() -> None:
    inputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])
    before = Dataset(
        name="toy",
        train_inputs=inputs,
        train_targets=targets,
        test_inputs=inputs,
        test_targets=targets,
        num_classes=2,
        sample_shape=(1,),
        source="by hand",
    )

    after = standardize_inputs(before)

    assert inputs.flatten().tolist() == [1.0, 3.0]
    assert after.test_inputs.flatten().tolist() == [-1.0, 1.0]
