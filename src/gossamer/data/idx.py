"""Read IDX files, the format of MNIST and of the sets that replace it."""

from __future__ import annotations

import hashlib
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path, *, md5: str | None = None) -> NDArray[Any]:
    """Read one IDX file, gzipped or plain; the content decides, not the name.

    Args:
        path: the file.
        md5: what the decompressed content must hash to; None accepts any. The gzip wrapper is left out because
            the same content is in circulation in different wrappers.

    Returns:
        The array in the file's shape and type, in the machine's byte order, writable.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an IDX file, truncated, too long, or another md5 than demanded.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "labels-idx1-ubyte")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        ...     read_idx(path)
        array([7, 9], dtype=uint8)

    Source:
        LeCun, Cortes, Burges. The MNIST database of handwritten digits, section "File formats".
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    raw = path.read_bytes()
    content, whole = _gunzip(raw, path) if raw.startswith(_GZIP_MAGIC) else (raw, True)
    array = _parse(content, path)
    if not whole:
        raise ValueError(f"{path}: the gzip stream breaks off before its end mark; fetch the file again")
    if md5 is not None:
        _check_md5(content, md5, path)
    return array


def _gunzip(raw: bytes, path: Path) -> tuple[bytes, bool]:
    """Return what can be decompressed, and whether the stream reached its end."""
    # Not gzip.open: of a truncated file it yields nothing, and the error must say how much is there.
    parts: list[bytes] = []
    whole = False
    while raw.startswith(_GZIP_MAGIC):
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(stream.decompress(raw))
        except zlib.error as error:
            raise ValueError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
        whole, raw = stream.eof, stream.unused_data
    return b"".join(parts), whole


def _parse(content: bytes, path: Path) -> NDArray[Any]:
    """Check the header against the length and return the array."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES or content[3] == 0:
        allowed = ", ".join(f"{code:02x}" for code in _DTYPES)
        raise ValueError(
            f"{path}: not an IDX file: it begins with '{content[:4].hex(' ')}'; "
            f"expected 00 00, a type ({allowed}) and the number of dimensions"
        )
    dtype, rank = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    # A header that is cut short gives wrong sizes, so its own length is what was expected then.
    expected = start if len(content) < start else start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "longer than its header says"
        raise ValueError(
            f"{path}: {state}: expected {expected} bytes, found {len(content)} (decompressed); fetch the file again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _check_md5(content: bytes, expected: str, path: Path) -> None:
    """Refuse content that is not the published one."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path}: not the official file: its decompressed content has md5 {found}, expected {expected}; "
            "put the official file there (data of your own goes into an .npz or .csv file)"
        )
