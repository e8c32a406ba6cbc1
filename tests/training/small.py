"""A small problem and a small configuration for the tests of training."""

from typing import Any

from gossamer import data
from gossamer.data import Dataset
from gossamer.training import Config


def digits() -> Dataset:
    """Two hundred rows to train on, a hundred to test on."""
    return data.load("digits", train_size=200, test_size=100)


def config(**changes: Any) -> Config:
    """Three epochs of five steps, updates after every other step."""
    fields = {"method": "set", "model": "mlp:16x2", "sparsity": 0.8, "epochs": 3, "batch_size": 40, "update_every": 2}
    return Config(**{**fields, **changes})
