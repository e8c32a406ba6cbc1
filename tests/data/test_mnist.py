import gc
import gzip
import hashlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from gossamer.data import Dataset, fashion_mnist, mnist
from gossamer.data.mnist import STEMS, IdxSource, idx_dataset

# Two training images and one test image of 1 x 2 pixels.
CONTENTS = (
    bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 102]),
    bytes([0, 0, 8, 1, 0, 0, 0, 2, 9, 0]),
    bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 255, 255]),
    bytes([0, 0, 8, 1, 0, 0, 0, 1, 3]),
)
MD5S = tuple(hashlib.md5(content).hexdigest() for content in CONTENTS)
TINY = IdxSource(name="tiny", url="http://127.0.0.1:9/", md5s=(MD5S[0], MD5S[1], MD5S[2], MD5S[3]))


def write(folder: Path, ending: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in zip(STEMS, CONTENTS, strict=True):
        (folder / (stem + ending)).write_bytes(gzip.compress(content) if ending == ".gz" else content)
    return folder


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


class BreakingHandler(QuietHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(gzip.compress(CONTENTS[0])[:20])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GOSSAMER_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "gossamer" / "tiny"


def serve(handler: partial[QuietHandler] | type[QuietHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()
    # pooch does not close the response of a failed download; without this the warning would hit a later test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    yield from serve(partial(QuietHandler, directory=str(tmp_path / "served")))


@pytest.fixture
def breaking_address() -> Iterator[str]:
    yield from serve(BreakingHandler)


def test_images_become_rows_between_0_and_1(tmp_path: Path) -> None:
    data = idx_dataset(TINY, write(tmp_path))

    assert data.train_inputs.flatten().tolist() == pytest.approx([0.0, 1.0, 0.2, 0.4])
    assert data.train_targets.tolist() == [9, 0]
    assert (data.test_targets.tolist(), data.sample_shape, data.num_classes) == ([3], (1, 1, 2), 10)


@pytest.mark.parametrize("ending", [".gz", ""])
@pytest.mark.parametrize("folder", [".", "tiny"])
def test_files_are_found_packed_or_not_in_the_folder_or_in_its_own(tmp_path: Path, folder: str, ending: str) -> None:
    write(tmp_path / folder, ending)

    assert idx_dataset(TINY, tmp_path).num_features == 2


def test_the_spelling_with_a_dot_is_found(tmp_path: Path) -> None:
    write(tmp_path, "")
    for stem in STEMS:
        (tmp_path / stem).rename(tmp_path / stem.replace("-idx", ".idx"))

    assert idx_dataset(TINY, tmp_path).num_features == 2


def test_the_sets_own_folder_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "tiny")
    for stem in STEMS:
        (tmp_path / stem).write_bytes(b"of another data set")

    assert idx_dataset(TINY, tmp_path).num_features == 2


def test_the_environment_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_DATA", str(write(tmp_path)))

    assert idx_dataset(TINY, None).source == str(tmp_path)


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_files_that_are_not_the_official_ones_are_refused(tmp_path: Path, load: Callable[[Path], Dataset]) -> None:
    write(tmp_path)

    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: not the official file"):
        load(tmp_path)


def test_a_folder_without_all_four_files_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / f"{STEMS[3]}.gz").unlink()

    with pytest.raises(FileNotFoundError, match=r"lacks files of tiny: all of train-images-idx3-ubyte, .* are needed"):
        idx_dataset(TINY, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*absent"):
        idx_dataset(TINY, tmp_path / "absent")


def test_missing_files_are_downloaded_once(tmp_path: Path, cache: Path, address: str) -> None:
    served = write(tmp_path / "served")
    source = replace(TINY, url=address)

    assert idx_dataset(source, None).train_targets.tolist() == [9, 0]
    for stem in STEMS:
        (served / f"{stem}.gz").unlink()
    assert idx_dataset(source, None).source == str(cache)
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{stem}.gz" for stem in STEMS)


def test_a_wrong_download_is_not_kept(tmp_path: Path, cache: Path, address: str) -> None:
    (write(tmp_path / "served") / f"{STEMS[0]}.gz").write_bytes(gzip.compress(CONTENTS[2]))

    with pytest.raises(RuntimeError, match="could not download") as caught:
        idx_dataset(replace(TINY, url=address), None)
    assert "not the official file" in str(caught.value.__cause__)
    assert list(cache.iterdir()) == []


def test_a_download_that_breaks_off_is_not_kept(cache: Path, breaking_address: str) -> None:
    with pytest.raises(RuntimeError, match="could not download"):
        idx_dataset(replace(TINY, url=breaking_address), None)
    assert list(cache.iterdir()) == []


def test_a_failed_download_says_in_one_line_what_to_do(tmp_path: Path, cache: Path, address: str) -> None:
    (tmp_path / "served").mkdir()

    with pytest.raises(RuntimeError, match=r"four files .*--data-dir.*GOSSAMER_DATA.*404") as caught:
        idx_dataset(replace(TINY, url=address), None)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_without_pooch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOSSAMER_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)

    with pytest.raises(ImportError, match=r'pip install "gossamer\[data\]"'):
        mnist()
