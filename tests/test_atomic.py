import errno
import os
from pathlib import Path

import pytest

from gossamer import atomic


def test_the_content_stands_at_the_path_with_the_rights_of_an_ordinary_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write(tmp_path / "file", lambda aside: aside.write_text("new"))
    finally:
        os.umask(before)

    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill(aside: Path) -> None:
        aside.write_text("new")
        assert aside.parent == tmp_path
        assert path.read_text() == "old"

    atomic.write(path, fill)
    assert path.read_text() == "new"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(number: int) -> None:
        synced.append(Path(f"/proc/self/fd/{number}").resolve().read_text())
        assert not (tmp_path / "file").exists()

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.write(tmp_path / "file", lambda aside: aside.write_text("new"))

    assert synced == ["new"]


@pytest.mark.parametrize("error", [ValueError("no"), OSError("no"), KeyboardInterrupt(), SystemExit()])
def test_whatever_happens_the_old_file_stays_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "file").write_text("old")

    def fill(aside: Path) -> None:
        aside.write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        atomic.write(tmp_path / "file", fill)

    assert caught.value is error
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    def fill(aside: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(aside))

    with pytest.raises(OSError, match="No space left") as caught:
        atomic.write(tmp_path / "file", fill)

    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "file"))


def test_an_error_that_a_library_hid_is_told_again(tmp_path: Path) -> None:
    def as_torch(aside: Path) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904 - as torch does it

    def as_safetensors(aside: Path) -> None:
        raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")

    for fill in (as_torch, as_safetensors):
        with pytest.raises(OSError, match="No space left") as caught:
            atomic.write(tmp_path / "file", fill)
        assert caught.value.errno == errno.ENOSPC


def test_an_error_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    def fill(aside: Path) -> None:
        raise RuntimeError("about something else")

    with pytest.raises(RuntimeError, match="about something else"):
        atomic.write(tmp_path / "file", fill)


def test_a_folder_that_is_not_there_or_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.write(tmp_path / "missing" / "file", lambda aside: aside.touch())
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic.write(tmp_path / "folder", lambda aside: aside.touch())

    assert os.listdir(tmp_path) == ["folder"]


def test_names_may_hold_spaces_and_letters_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "a file, ünïcode 🕸"

    atomic.write(path, lambda aside: aside.write_text("new"))

    assert path.read_text() == "new"


def test_what_a_killed_process_leaves_is_found(tmp_path: Path) -> None:
    def fill(aside: Path) -> None:
        assert atomic.leftovers(tmp_path / "file") == [aside]

    atomic.write(tmp_path / "file", fill)
    assert atomic.leftovers(tmp_path / "file") == []


def test_leftovers_are_those_of_this_file_alone(tmp_path: Path) -> None:
    names = [".file.ab12_xyz.part", ".file.part", ".files.ab12_xyz.part", ".file.swp", "file.ab12_xyz.part", "file"]
    for name in names:
        (tmp_path / name).touch()

    assert [path.name for path in atomic.leftovers(tmp_path / "file")] == [".file.ab12_xyz.part"]
    assert atomic.leftovers(tmp_path / "missing" / "file") == []
