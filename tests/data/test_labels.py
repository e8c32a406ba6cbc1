from typing import Any

import numpy as np
import pytest

from gossamer.data.labels import encode_labels, encode_labels_like


@pytest.mark.parametrize(
    ("labels", "targets", "classes"),
    [
        ([-1, 1, -1], [0, 1, 0], [-1, 1]),
        ([2, 1, 2], [1, 0, 1], [1, 2]),
        ([10.0, 9.0, 10.0], [1, 0, 1], [9.0, 10.0]),
        ([True, False], [1, 0], [False, True]),
        (["dog", "cat", "dog"], [1, 0, 1], ["cat", "dog"]),
        ([b"dog", b"cat"], [1, 0], ["cat", "dog"]),
        (["10", "9"], [0, 1], ["10", "9"]),
    ],
)
def test_classes_are_numbered_in_sorted_order(labels: list[Any], targets: list[int], classes: list[Any]) -> None:
    encoded, found = encode_labels(np.array(labels))

    assert encoded.tolist() == targets
    assert found.tolist() == classes


def test_test_labels_take_the_numbers_of_the_training_labels() -> None:
    assert encode_labels_like(np.array([9.0, 3.0]), np.array([3, 5, 9])).tolist() == [2, 0]


def test_a_test_label_absent_from_training_is_named() -> None:
    with pytest.raises(ValueError, match=r"1 labels of the test rows do not occur .* such as 7"):
        encode_labels_like(np.array([3, 7]), np.array([3, 5]))


def test_numbers_and_text_do_not_mix() -> None:
    with pytest.raises(ValueError, match="both as numbers or both as text"):
        encode_labels_like(np.array(["3"]), np.array([3, 5]))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([1.0, 0.5, 0.25], "2 labels are not whole numbers, the first is 0.5 at row 1"),
        ([1.0, float("nan")], "not whole numbers, the first is nan"),
        ([1.0, float("inf")], "not whole numbers, the first is inf"),
        ([[1], [2]], r"shape \(2, 1\)"),
        ([1j, 2], "complex"),
    ],
)
def test_what_is_no_class_label_is_refused(labels: list[Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        encode_labels(np.array(labels))
