from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.data import digits, load


def split_file(folder: Path) -> str:
    path = folder / "Toy.NPZ"
    with path.open("wb") as file:
        np.savez(file, x_train=[[0.0], [2.0], [50.0]], y_train=[0, 1, 2], x_test=[[1.0], [3.0]], y_test=[2, 0])
    return str(path)


def test_sizes_take_the_first_rows_and_then_standardize(tmp_path: Path) -> None:
    data = load(split_file(tmp_path), train_size=2, test_size=1)

    assert data.train_inputs.tolist() == [[-1.0], [1.0]]
    assert (data.test_inputs.tolist(), data.test_targets.tolist()) == ([[0.0]], [2])
    assert data.num_classes == 3


def test_without_standardizing_the_values_are_those_of_the_file(tmp_path: Path) -> None:
    data = load(split_file(tmp_path), test_size=1, standardize=False)

    assert data.train_inputs.flatten().tolist() == [0.0, 2.0, 50.0]
    assert data.test_inputs.flatten().tolist() == [1.0]


def test_rows_that_are_left_out_are_not_held_in_memory(tmp_path: Path) -> None:
    data = load(split_file(tmp_path), train_size=1, standardize=False)

    assert data.train_inputs.untyped_storage().nbytes() == 4


def test_digits_are_loaded_by_name() -> None:
    assert torch.equal(load("digits", standardize=False).train_inputs, digits().train_inputs)


def test_standardized_digits_have_mean_0_and_deviation_1_or_0() -> None:
    inputs = load("digits").train_inputs.double()

    assert float(inputs.mean(0).abs().max()) < 1e-6
    deviations = inputs.std(0, correction=0)
    assert bool((((deviations - 1).abs() < 1e-5) | (deviations == 0)).all())


def test_a_csv_file_is_loaded_by_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    path.write_text("1,a\n2,b\n3,a\n4,b\n")

    assert load(str(path)).source == str(path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_data_dir_reaches_the_idx_sets(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"lacks files of {name}"):
        load(name, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fashion_mnist", r"unknown data set 'fashion_mnist'; did you mean fashion-mnist"),
        ("Digits", r"did you mean digits\?"),
        (
            "cifar10",
            r"unknown data set 'cifar10'; allowed are digits, mnist, fashion-mnist and paths .* \.npz or \.csv",
        ),
        ("table.parquet", "unknown data set 'table.parquet'"),
        ("", "unknown data set ''"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_the_allowed(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load(name)


@pytest.mark.parametrize(
    ("sizes", "error", "text"),
    [
        ({"train_size": 0}, ValueError, "train_size is 0; give 1 to 3"),
        ({"train_size": 4}, ValueError, "train_size is 4; give 1 to 3"),
        ({"test_size": -1}, ValueError, "test_size is -1; give 1 to 2"),
        ({"test_size": 1.0}, TypeError, "test_size is 1.0; give an integer"),
        ({"train_size": True}, TypeError, "train_size is True"),
    ],
)
def test_sizes_outside_the_rows_are_refused(
    tmp_path: Path, sizes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        load(split_file(tmp_path), **sizes)


def test_a_data_dir_that_has_no_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only mnist and fashion-mnist use it; leave it out for digits"):
        load("digits", data_dir=tmp_path)
