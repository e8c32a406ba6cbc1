from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer import files

from .shell import good, refused

BUILD = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 10))

def convolutions():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 40))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def checkpoint(own_folder: Path) -> Path:
    (own_folder / "own_fast.py").write_text(BUILD)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Linear(64, 80)
        first.weight.data *= torch.rand(80, 64) < 0.1
        model = nn.Sequential(first, nn.ReLU(), nn.Linear(80, 10))
    torch.save(model.state_dict(), own_folder / "net.pt")
    return own_folder / "net.pt"


@pytest.fixture
def sparse_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that do not depend on the machine."""

    def taken(contenders: Mapping[str, Callable[[], object]], *, keep: str, **_: Any) -> dict[str, float]:
        return {name: 4.0 if name in (keep, "given") else 1.0 for name in contenders}

    monkeypatch.setattr("gossamer.acceleration.contest.interleaved", taken)
    monkeypatch.setattr("gossamer.acceleration.whole.interleaved", taken)


@pytest.fixture
def dense_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(contenders: Mapping[str, Callable[[], object]], *, keep: str, **_: Any) -> dict[str, float]:
        return {name: 1.0 if name == keep else 4.0 for name in contenders}

    monkeypatch.setattr("gossamer.acceleration.contest.interleaved", taken)


FAST = ("accelerate", "net.pt", "--model", "own_fast:build", "--batch", "4", "--threads", "1")


def test_the_table_has_a_row_for_each_layer(checkpoint: Path, sparse_wins: None) -> None:
    out = good(*FAST).out

    assert "net.pt, batch 4" in out
    assert "none of its weights" in out
    assert "4.00 times as fast" in out
    assert sorted(path.name for path in checkpoint.parent.glob("*.safetensors")) == []


def test_a_second_command_takes_what_was_measured(checkpoint: Path, sparse_wins: None) -> None:
    good(*FAST)

    assert "net.pt, batch 4: measured before" in good(*FAST).out
    assert "measured before" not in good(*FAST, "--no-cache").out


def test_json_has_all_times(checkpoint: Path, sparse_wins: None) -> None:
    fields = good(*FAST, "--json").json

    assert [row["layer"] for row in fields["layers"]] == ["0", "2"]
    assert fields["layers"][0]["times_ms"]["dense"] == 4.0
    assert (fields["given_ms"], fields["ms"], fields["batch"], fields["path"]) == (4.0, 1.0, 4, None)


def test_the_file_is_truly_sparse_and_loads_anywhere(checkpoint: Path, sparse_wins: None) -> None:
    good(*FAST, "--out", "fast.safetensors")
    model = nn.Sequential(nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 10))
    loaded = gs.load("fast.safetensors", model)
    model.load_state_dict(torch.load(checkpoint))
    inputs = torch.randn(3, 64)

    assert isinstance(loaded[0], gs.nn.SparseLinear)  # type: ignore[index]
    assert torch.allclose(loaded(inputs), model(inputs), atol=1e-5)
    assert files.read("fast.safetensors").metadata == {"accelerated": "batch 4"}


def test_where_nothing_is_faster_nothing_is_written(checkpoint: Path, dense_wins: None) -> None:
    out = good(*FAST, "--out", "fast.safetensors").out

    assert "nothing was written: nothing is faster" in out
    assert "left as it was: no other storage of any layer is faster" in out
    assert not Path("fast.safetensors").exists()


def test_images_need_a_shape(checkpoint: Path, sparse_wins: None) -> None:
    last = nn.Linear(72, 40)
    last.weight.data[:, 5:] = 0
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), last)
    torch.save(model.state_dict(), "images.pt")
    words = ("accelerate", "images.pt", "--model", "own_fast:convolutions")

    assert refused(*words) == "the first layer is a Conv2d; give --input, such as 3x32x32, or --data"
    assert "4.00 times as fast" in good(*words, "--input", "1x8x8").out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--batch", "0"), "--batch"),
        (("--seconds", "0"), "seconds must be above 0"),
        (("--input", "3xx"), "--input 3xx is no shape"),
        (("--out", "fast.pt"), "--out must be a file that ends in .safetensors"),
        (("--threads", "100000"), "--threads"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], part: str, checkpoint: Path) -> None:
    assert part in refused(*FAST[:4], *words)


def test_an_input_that_does_not_fit_is_one_line(checkpoint: Path) -> None:
    assert "shapes cannot be multiplied" in refused(*FAST, "--input", "63")
