import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from gossamer.data import read_idx

CUBE = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cube-idx3-ubyte"


def test_a_plain_file_gives_its_array(path: Path) -> None:
    path.write_bytes(CUBE)

    array = read_idx(path)

    assert array.dtype == np.uint8
    assert array.tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


def test_the_content_and_not_the_name_decides_about_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(CUBE))
    plain = path.with_suffix(".gz")
    plain.write_bytes(CUBE)

    assert read_idx(path).tolist() == read_idx(plain).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


def test_a_gzip_file_of_several_members_is_read_whole(path: Path) -> None:
    path.write_bytes(gzip.compress(CUBE[:9]) + gzip.compress(CUBE[9:]))

    assert read_idx(path).shape == (2, 1, 3)


def test_numbers_are_big_endian_in_the_file_and_native_in_memory(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 0x0C, 1, 0, 0, 0, 2, 0, 0, 1, 0, 255, 255, 255, 255]))

    array = read_idx(path)

    assert array.tolist() == [256, -1]
    assert array.dtype == np.dtype("=i4")


@pytest.mark.parametrize("length", [16, 17, 21])
def test_a_truncated_file_names_expected_and_found_bytes(path: Path, length: int) -> None:
    path.write_bytes(CUBE[:length])

    with pytest.raises(ValueError, match=rf"cube-idx3-ubyte: truncated: expected 22 bytes, found {length}"):
        read_idx(path)


def test_a_header_that_is_cut_short_is_truncated_too(path: Path) -> None:
    path.write_bytes(CUBE[:10])

    with pytest.raises(ValueError, match="truncated: expected 16 bytes, found 10"):
        read_idx(path)


def test_every_truncation_of_a_gzip_file_is_refused(path: Path) -> None:
    packed = gzip.compress(CUBE)
    for length in range(len(packed)):
        path.write_bytes(packed[:length])

        with pytest.raises(ValueError, match="cube-idx3-ubyte: "):
            read_idx(path)


def test_a_truncated_gzip_file_names_the_decompressed_bytes(path: Path) -> None:
    content = bytes([0, 0, 8, 1, 0, 1, 0, 0]) + np.random.RandomState(0).bytes(65536)
    path.write_bytes(gzip.compress(content)[:40000])

    with pytest.raises(ValueError, match=r"truncated: expected 65544 bytes, found \d{5} "):
        read_idx(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", bytes([0, 0, 7, 1, 0, 0, 0, 0]), bytes([0, 0, 8, 0])])
def test_what_is_no_idx_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(ValueError, match="not an IDX file"):
        read_idx(path)


def test_bytes_after_the_end_are_refused(path: Path) -> None:
    path.write_bytes(CUBE + b"\0")

    with pytest.raises(ValueError, match="longer than its header says: expected 22 bytes, found 23"):
        read_idx(path)


def test_a_damaged_gzip_stream_is_refused(path: Path) -> None:
    packed = bytearray(gzip.compress(CUBE))
    packed[-6] ^= 1
    path.write_bytes(packed)

    with pytest.raises(ValueError, match="gzip stream is damaged"):
        read_idx(path)


def test_the_md5_is_that_of_the_decompressed_content(path: Path) -> None:
    path.write_bytes(gzip.compress(CUBE, compresslevel=1))

    assert read_idx(path, md5=hashlib.md5(CUBE).hexdigest()).size == 6
    with pytest.raises(ValueError, match=r"has md5 [0-9a-f]{32}, expected 0000"):
        read_idx(path, md5="0000")


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*cube-idx3-ubyte"):
        read_idx(path)
