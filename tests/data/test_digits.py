import sys

import pytest
import torch

from gossamer.data import digits


def test_the_digits_have_the_fixed_stratified_split() -> None:
    data = digits()

    assert (len(data.train_inputs), len(data.test_inputs)) == (1437, 360)
    assert data.test_targets.bincount().tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    # The first rows are pinned: another split would make old and new results incomparable.
    assert data.train_targets[:10].tolist() == [2, 5, 9, 5, 2, 2, 7, 1, 3, 3]
    assert data.sample_shape == (1, 8, 8)


def test_the_pixels_lie_between_0_and_1() -> None:
    data = digits()

    assert (float(data.train_inputs.min()), float(data.train_inputs.max())) == (0.0, 1.0)


def test_the_runs_seed_does_not_change_the_split() -> None:
    torch.manual_seed(1)
    first = digits()
    torch.manual_seed(2)

    assert torch.equal(first.test_inputs, digits().test_inputs)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(ImportError, match=r'pip install "gossamer\[data\]"'):
        digits()
