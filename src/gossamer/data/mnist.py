"""MNIST and Fashion-MNIST from IDX files: a folder of the user's, or downloaded once and kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossamer.data.dataset import Dataset
from gossamer.data.download import fetch, import_pooch
from gossamer.data.idx import read_idx

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True, kw_only=True)
class IdxSource:
    """Say where the four files of one data set are and what they must contain.

    Args:
        name: name of the data set and of its folder.
        url: address of the folder that holds the four `.gz` files, with the slash at its end.
        md5s: md5 sums of the decompressed files, in the order of `STEMS`.
    """

    name: str
    url: str
    md5s: tuple[str, str, str, str]


MNIST = IdxSource(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    md5s=(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
)
FASHION_MNIST = IdxSource(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    md5s=(
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
)


def mnist(data_dir: Path | None = None) -> Dataset:
    """Load the handwritten digits: 60,000 training and 10,000 test images of 28 x 28, pixels in [0, 1].

    Args:
        data_dir: folder with the four IDX files, or with a folder `mnist` that has them. None takes the folder
            named by the environment variable GOSSAMER_DATA, and without that the user's cache, which is filled by
            a download of 11 MB.

    Returns:
        The data set, sample shape (1, 28, 28), rows in the official order.

    Raises:
        FileNotFoundError: the folder lacks the files.
        ImportError: pooch is needed and not installed.
        RuntimeError: the download failed.
        ValueError: a file is damaged or not the official one.

    Source:
        LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition. Proc. IEEE 1998.
    """
    return idx_dataset(MNIST, data_dir)


def fashion_mnist(data_dir: Path | None = None) -> Dataset:
    """Load the clothing images: 60,000 training and 10,000 test images of 28 x 28, pixels in [0, 1].

    Args:
        data_dir: as for `mnist`, with a folder `fashion-mnist`; the download is 31 MB.

    Returns:
        The data set, sample shape (1, 28, 28), rows in the official order.

    Raises:
        FileNotFoundError: the folder lacks the files.
        ImportError: pooch is needed and not installed.
        RuntimeError: the download failed.
        ValueError: a file is damaged or not the official one.

    Source:
        Xiao, Rasul, Vollgraf. Fashion-MNIST. arXiv:1708.07747.
    """
    return idx_dataset(FASHION_MNIST, data_dir)


def idx_dataset(source: IdxSource, data_dir: Path | None) -> Dataset:
    """Load a data set of ten classes from its four IDX files.

    Args:
        source: the data set.
        data_dir: as for `mnist`.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: the folder lacks the files.
        ImportError: pooch is needed and not installed.
        RuntimeError: the download failed.
        ValueError: a file is damaged or not the official one.
    """
    folder = data_dir or os.environ.get("GOSSAMER_DATA")
    paths = _find(source, Path(folder).expanduser()) if folder else _cached(source)
    images, labels, test_images, test_labels = (
        read_idx(path, md5=md5) for path, md5 in zip(paths, source.md5s, strict=True)
    )
    return Dataset(
        name=source.name,
        train_inputs=_unit_pixels(images),
        train_targets=torch.from_numpy(labels.astype(np.int64)),
        test_inputs=_unit_pixels(test_images),
        test_targets=torch.from_numpy(test_labels.astype(np.int64)),
        num_classes=10,
        sample_shape=(1, *images.shape[1:]),
        source=str(paths[0].parent),
    )


def _unit_pixels(images: NDArray[Any]) -> Tensor:
    """Flatten each image and scale 0..255 to [0, 1]."""
    return torch.from_numpy(images.astype(np.float32)).flatten(1).div_(255.0)


def _existing(folder: Path, stem: str) -> Path | None:
    """Return the file of that stem, whichever of its usual names it has."""
    # Some unpackers and mirrors write the dot, as in train-images.idx3-ubyte.
    names = (name + ending for name in (stem, stem.replace("-idx", ".idx")) for ending in (".gz", ""))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _find(source: IdxSource, folder: Path) -> list[Path]:
    """Return the four files from the user's folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}; give a folder that holds the files of {source.name}")
    # The set's own folder first: MNIST and Fashion-MNIST use the same four file names.
    for candidate in (folder / source.name, folder):
        found = [path for stem in STEMS if (path := _existing(candidate, stem))]
        if len(found) == len(STEMS):
            return found
    wanted = ", ".join(STEMS)
    raise FileNotFoundError(
        f"{folder} lacks files of {source.name}: all of {wanted} are needed, with or without .gz, there or in its "
        f"folder '{source.name}'; without data_dir and GOSSAMER_DATA they are downloaded"
    )


def _cached(source: IdxSource) -> list[Path]:
    """Return the four files from the user's cache; download those that are missing."""
    folder = Path(import_pooch().os_cache("gossamer")) / source.name
    return [
        _existing(folder, stem) or _downloaded(source, folder / f"{stem}.gz", md5)
        for stem, md5 in zip(STEMS, source.md5s, strict=True)
    ]


def _downloaded(source: IdxSource, target: Path, md5: str) -> Path:
    """Download one file, or say what to do instead."""
    try:
        fetch(source.url + target.name, target, check=partial(read_idx, md5=md5))
    except (OSError, ValueError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 240, placeholder=" ...")
        raise RuntimeError(
            f"could not download {source.url}{target.name}; put the four files {', '.join(STEMS)}, with or without "
            f".gz, in a folder and pass it as data_dir (--data-dir), or set GOSSAMER_DATA to it ({reason})"
        ) from error
    return target
