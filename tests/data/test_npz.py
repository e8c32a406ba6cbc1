import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.data import Dataset, read_npz


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, allow_pickle=True, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def read(folder: Path, **changes: Any) -> Dataset:
    arrays = {"x_train": [[1, 2], [3, 4]], "y_train": [1, -1], "x_test": [[5, 6]], "y_test": [1]}
    return read_npz(save(folder / "toy.npz", **(arrays | changes)))


def test_four_arrays_make_a_data_set(tmp_path: Path) -> None:
    data = read(tmp_path)

    assert data.train_inputs.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (data.train_targets.tolist(), data.test_targets.tolist()) == ([1, 0], [1])
    assert (data.name, data.num_classes, data.sample_shape) == ("toy", 2, (2,))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", ">f4", "bool"])
def test_inputs_of_any_real_type_become_float32(tmp_path: Path, dtype: str) -> None:
    data = read(tmp_path, x_train=np.array([[0, 1], [1, 1]], dtype=dtype))

    assert data.train_inputs.dtype == torch.float32
    assert data.train_inputs.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_rows_of_any_rank_are_flattened_and_their_shape_is_kept(tmp_path: Path) -> None:
    images = np.arange(24).reshape(2, 3, 2, 2)

    data = read(tmp_path, x_train=np.asfortranarray(images), x_test=images[:1])

    assert data.train_inputs[1].tolist() == list(range(12, 24))
    assert data.sample_shape == (3, 2, 2)


def test_the_validation_pair_serves_where_test_rows_have_no_labels(tmp_path: Path) -> None:
    arrays = {"x_train": [[0.0], [1.0]], "y_train": ["b", "a"], "x_test": [[9.0]]}

    data = read_npz(save(tmp_path / "toy.npz", **arrays, x_valid=[[5.0]], y_valid=["b"]))

    assert (data.test_inputs.tolist(), data.test_targets.tolist()) == ([[5.0]], [1])


def test_the_test_pair_goes_before_the_validation_pair(tmp_path: Path) -> None:
    assert read(tmp_path, x_valid=[[0, 0]], y_valid=[1]).test_inputs.tolist() == [[5.0, 6.0]]


def test_one_table_is_split_the_same_way_each_time(tmp_path: Path) -> None:
    path = save(tmp_path / "toy.npz", x=np.arange(20).reshape(20, 1), y=np.arange(20) % 2 + 1, classes=["a", "b"])

    data = read_npz(path)

    assert data.test_targets.bincount().tolist() == [2, 2]
    assert sorted(torch.cat([data.train_inputs, data.test_inputs]).flatten().tolist()) == list(range(20))
    assert torch.equal(data.train_targets, data.train_inputs.flatten().long() % 2)
    assert torch.equal(data.test_inputs, read_npz(path).test_inputs)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"y_test": [5]}, "1 labels of the test rows do not occur in the training rows, such as 5"),
        ({"y_train": [0.5, 1.0]}, "labels are not whole numbers, the first is 0.5 at row 0"),
        ({"y_train": [1, 1]}, "num_classes is 1"),
        ({"y_train": [1, -1, 1]}, "train_inputs have 2 rows, train_targets 3"),
        ({"x_train": [1, 2]}, r"training rows have shape \(\), test rows \(2,\)"),
        ({"x_train": [1, 2], "x_test": [1]}, r"inputs have shape \(2,\)"),
        ({"x_train": [["a", "b"], ["c", "d"]]}, "type <U1; give real numbers"),
        ({"x_train": [[1j, 2], [3, 4]]}, "complex128"),
        ({"x_train": [[1, 2], [3, np.nan]]}, "train_inputs hold 1 values .* row 1, column 1"),
        ({"x_test": [[1e300, 0]]}, "test_inputs hold 1 values .* row 0, column 0"),
        ({"x_test": np.zeros((0, 2)), "y_test": np.zeros(0, int)}, "test_inputs have shape .* at least one row"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=rf"toy\.npz: .*{text}"):
        read(tmp_path, **changes)


def test_rows_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x has shape \(3, 1\), y \(2,\)"):
        read_npz(save(tmp_path / "toy.npz", x=np.zeros((3, 1)), y=[0, 1]))


@pytest.mark.parametrize("names", [("x",), ("x_train", "y_train"), ("x_train", "y_train", "x_test", "y_valid"), ()])
def test_missing_arrays_are_answered_with_what_is_there_and_what_is_allowed(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    path = save(tmp_path / "toy.npz", **{name: [0] for name in names})

    found = ", ".join(sorted(names)) or "none"
    with pytest.raises(ValueError, match=rf"arrays found: {found}; needed: x_train, y_train with x_test"):
        read_npz(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"toy\.npz: cannot be read .*Object arrays cannot be loaded"):
        read(tmp_path, y_train=np.array([1, "a"], dtype=object))


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = save(tmp_path / "toy.npz", x=np.zeros((50, 2)), y=np.arange(50) % 2)
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ValueError, match=r"toy\.npz: cannot be read as an \.npz file"):
        read_npz(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "toy.npz", x=np.ones((50, 2)), y=np.arange(50) % 2)
    content = bytearray(path.read_bytes())
    content[content.index(np.ones(4).tobytes())] ^= 1
    path.write_bytes(content)

    with pytest.raises(ValueError, match="Bad CRC-32"):
        read_npz(path)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", "text")
        archive.writestr("y.npy", "text")

    with pytest.raises(ValueError, match=r"toy\.npz: "):
        read_npz(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.npz"):
        read_npz(tmp_path / "absent.npz")
