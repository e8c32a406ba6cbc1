"""Small classification data sets for the command line, the examples and the tests."""

from gossamer.data.batches import batches
from gossamer.data.csv import read_csv
from gossamer.data.dataset import Dataset
from gossamer.data.digits import digits
from gossamer.data.idx import read_idx
from gossamer.data.load import load
from gossamer.data.mnist import fashion_mnist, mnist
from gossamer.data.npz import read_npz

__all__ = ["Dataset", "batches", "digits", "fashion_mnist", "load", "mnist", "read_csv", "read_idx", "read_npz"]
