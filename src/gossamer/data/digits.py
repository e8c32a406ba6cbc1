"""The handwritten digits that scikit-learn brings along: no download, seconds to train on."""

from __future__ import annotations

import numpy as np
import torch

from gossamer.data.dataset import Dataset
from gossamer.data.split import split_table


def digits() -> Dataset:
    """Load the 1,797 digits of 8 x 8 pixels, 10 classes, pixels in [0, 1].

    The split into 1,437 training and 360 test rows is the same in every run.

    Returns:
        The data set, sample shape (1, 8, 8).

    Raises:
        ImportError: scikit-learn is not installed.

    Example:
        >>> data = digits()
        >>> len(data.train_inputs), len(data.test_inputs), data.num_classes
        (1437, 360, 10)

    Source:
        Alpaydin, Kaynak. Cascading classifiers. Kybernetika 34(4), 1998. The test part of the UCI set "Optical
        Recognition of Handwritten Digits".
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn, which is not installed; run: pip install "gossamer[data]"'
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy((pixels / 16.0).astype(np.float32))
    return split_table("digits", inputs, labels, sample_shape=(1, 8, 8), source="scikit-learn load_digits")
