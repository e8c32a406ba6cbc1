from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.data import Dataset, read_csv


def read(folder: Path, text: str | bytes) -> Dataset:
    path = folder / "toy.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(path)


def rows(data: Dataset) -> list[tuple[list[float], int]]:
    """All rows with their targets, in sorted order: the split shuffles them."""
    inputs = torch.cat([data.train_inputs, data.test_inputs]).tolist()
    return sorted(zip(inputs, torch.cat([data.train_targets, data.test_targets]).tolist(), strict=True))


EXPECTED = [([1.0, 2.5], 0), ([3.0, 4.0], 1), ([5.0, 6.0], 1), ([7.0, -80.0], 0)]


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5,-1\n3,4,1\n5,6,1\n7,-8e1,-1\n",
        "1,2.5,cat\n3,4,dog\n5,6,dog\n7,-8e1,cat",
        "a,b,c\n1,2.5,9\n3,4,10\n5,6,10\n7,-80,9\n",
        "label,0,1\ncat,1,2.5\ndog,3,4\ndog,5,6\ncat,7,-80\n",
        "x,Target,y\n1,1.0,2.5\n3,2.0,4\n5,2.0,6\n7,1.0,-80\n",
        "a,y,b\n1,n,2.5\n3,y,4\n5,y,6\n7,n,-80\n",
        "1,2.5,n\n3,4,y\n5,6,y\n7,-80,n\n",
        "5,6,y\n1,2.5,n\n3,4,y\n7,-80,n\n",
        '\ufeff1, 2.5 ,"a, b"\r\n\r\n3,4,"b"\r\n"5","6",b\r\n7,-80,"a, b"\r\n \r\n',
    ],
)
def test_features_and_labels_are_found(tmp_path: Path, text: str) -> None:
    data = read(tmp_path, text)

    assert rows(data) == EXPECTED
    assert (data.name, data.num_classes, data.sample_shape) == ("toy", 2, (2,))


def test_the_file_is_split_with_a_fifth_for_testing(tmp_path: Path) -> None:
    data = read(tmp_path, "".join(f"{row},{row % 2}\n" for row in range(50)))

    assert data.test_targets.bincount().tolist() == [5, 5]
    assert len(data.train_inputs) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n  \n", "the file is empty"),
        ("a,b,label\n", "a header and no rows"),
        ("1\n2\n", "line 1 has one column; .* separated by commas"),
        ("1;2;0\n3;4;1\n", "line 1 has one column"),
        ("1,2,0\n\n3,1\n", "line 3 has 2 columns, line 1 has 3"),
        ("1,2,0\n3,4,1,\n", "line 2 has 4 columns, line 1 has 3"),
        ("1,2,0\n3,abc,1\n", "line 2, column 2: 'abc' is not a number"),
        ("label,a,b\n0,1,\n", "line 2, column 3: '' is not a number"),
        ("a,label,b\n1,0,1_000\n", "line 2, column 3: '1_000' is not a number"),
        ("1.0,abc,0\n3,4,1\n", "line 1, column 2: 'abc' is not a number"),
        ("1,2,0\n3,nan,1\n4,inf,0\n", "line 2, column 2: nan is NaN or infinite in float32, the first of 2"),
        ("label,a\n0,1\n1,1e300\n", r"line 3, column 2: 1e\+300 is NaN or infinite"),
        ("1,2,0.5\n3,4,1\n", "line 1, column 3: label '0.5' is not a whole number"),
        ("1,2,0\n3,4,nan\n", "line 2, column 3: label 'nan' is not a whole number"),
        ("1,2,a\n3,4,\n", "line 2, column 3: the label is missing"),
        ("label,a,class\n1,2,3\n", r"more than one label column: label \(column 1\), class \(column 3\)"),
        (",a,label\n0,1,2\n", "line 1, column 1 of the header has no name"),
        ('1,2,0\n3,"4,1\n', "line 2: unexpected end of data"),
        ("1,2,0\n3,4,0\n", "num_classes is 1"),
        (b"1,2,\xff\xfe\n", "not UTF-8 text"),
        (b"1,2,0\n3,\0,1\n", r"line 2, column 2: '\\x00' is not a number"),
    ],
)
def test_bad_content_is_named_by_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"toy\.csv: .*{message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_ten_thousand_rows_of_a_hundred_features_are_read_exactly(tmp_path: Path) -> None:
    values = np.random.RandomState(0).randint(0, 1000, size=(10_000, 100))
    np.savetxt(tmp_path / "big.csv", np.c_[values, values[:, 0] % 3], fmt="%d", delimiter=",")

    data = read_csv(tmp_path / "big.csv")

    assert int(data.train_inputs.double().sum() + data.test_inputs.double().sum()) == int(values.sum())
    assert torch.equal(data.train_targets, data.train_inputs[:, 0].long() % 3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.csv"):
        read_csv(tmp_path / "absent.csv")
