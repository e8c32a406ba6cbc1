from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch

from gossamer.data import Dataset


def make(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "toy",
        "train_inputs": torch.arange(12.0).reshape(2, 6),
        "train_targets": torch.tensor([0, 1]),
        "test_inputs": torch.zeros(1, 6),
        "test_targets": torch.tensor([1]),
        "num_classes": 2,
        "sample_shape": (1, 2, 3),
        "source": "by hand",
    }
    return Dataset(**(fields | changes))


def test_num_features_is_the_product_of_the_sample_shape() -> None:
    assert make().num_features == 6


def test_a_dataset_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        make().name = "other"  # type: ignore[misc]


def test_nan_is_named_by_part_row_column_and_count() -> None:
    inputs = torch.zeros(3, 6)
    inputs[1, 4] = float("nan")
    inputs[2, 0] = float("inf")

    with pytest.raises(ValueError, match=r"^train_inputs hold 2 values .* row 1, column 4"):
        make(train_inputs=inputs, train_targets=torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match=r"^test_inputs hold 1 values .* row 0, column 5"):
        make(test_inputs=torch.tensor([[0.0, 0, 0, 0, 0, float("-inf")]]))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"train_targets": torch.tensor([0])}, ValueError, "train_inputs have 2 rows, train_targets 1"),
        ({"train_targets": torch.tensor([0, 2])}, ValueError, "train_targets: row 1 .* is 2; with 2 classes"),
        ({"test_targets": torch.tensor([-1])}, ValueError, "test_targets: row 0 .* is -1"),
        ({"num_classes": 1}, ValueError, "num_classes is 1; at least 2"),
        ({"sample_shape": (7,)}, ValueError, r"6 features, but sample_shape is \(7,\)"),
        ({"test_inputs": torch.zeros(0, 6), "test_targets": torch.tensor([]).long()}, ValueError, "at least one row"),
        ({"train_inputs": torch.zeros(2, 2, 3)}, ValueError, r"shape \(2, 2, 3\)"),
        ({"train_inputs": torch.zeros(2, 6).double()}, TypeError, "float64"),
        ({"train_targets": torch.tensor([0.0, 1.0])}, TypeError, "float32 and int64"),
    ],
)
def test_bad_data_is_refused(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(**changes)
