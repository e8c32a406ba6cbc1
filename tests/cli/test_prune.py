from pathlib import Path

import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer import files

from .shell import good, refused

BUILD = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))

def sized(num_features, num_classes):
    return nn.Sequential(nn.Linear(num_features, 40), nn.ReLU(), nn.Linear(40, num_classes))

def convolutions():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))

def recurrent():
    return nn.LSTM(5, 4)
"""


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_net.py").write_text(BUILD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_a_checkpoint_becomes_a_smaller_file_that_loads(checkpoint: Path) -> None:
    out = good("prune", "net.pt", "--model", "own_net:build", "--sparsity", "0.9").out

    written = checkpoint.with_name("net-magnitude-0.9.safetensors")
    model = gs.load(written, nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10)))
    assert isinstance(model[0], gs.nn.SparseLinear)  # type: ignore[index]
    assert model[0].num_active == 256  # type: ignore[index]
    assert "times less than the dense" in out
    assert written.stat().st_size < checkpoint.stat().st_size
    assert files.read(written).metadata == {"pruned_by": "magnitude", "sparsity": "0.9"}


def test_a_dry_run_shows_the_plan_and_writes_nothing(checkpoint: Path) -> None:
    before = sorted(checkpoint.parent.iterdir())

    out = good("prune", "net.pt", "--model", "own_net:build", "--dry-run").out

    assert "0.weight" in out
    assert "nothing was written" in out
    assert sorted(path for path in checkpoint.parent.iterdir() if path.name != "__pycache__") == before


@pytest.mark.parametrize("method", ["snip", "wanda", "sparsegpt", "synflow", "apoz", "fisher", "random"])
def test_methods_that_look_at_data_take_it_from_a_data_set(checkpoint: Path, method: str) -> None:
    words = ("--model", "own_net:sized", "--data", "digits", "--method", method, "--sparsity", "0.5", "--samples", "60")

    fields = good("prune", "net.pt", *words, "--json").json

    assert fields["layers"][0]["num_active"] > 0
    assert 0.0 <= fields["accuracy_after"] <= 1.0
    assert Path(fields["path"]).stat().st_size == fields["file_bytes"]


def test_what_is_no_smaller_is_said_to_be_no_smaller(checkpoint: Path) -> None:
    out = good("prune", "net.pt", "--model", "own_net:build", "--sparsity", "0.5", "--pattern", "nm:2:4").out

    assert "the model is not smaller than the dense" in out
    assert "dense with zeros, so neither smaller nor faster: 0.weight, 2.weight" in out


def test_convolutions_and_recurrent_layers_are_pruned(checkpoint: Path) -> None:
    torch.save(nn.LSTM(5, 4).state_dict(), "lstm.pt")
    torch.save(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)).state_dict(), "conv.pth")

    recurrent = good("prune", "lstm.pt", "--model", "own_net:recurrent", "--json").json["layers"]
    convolutions = good("prune", "conv.pth", "--model", "own_net:convolutions", "--json").json["layers"]

    assert [layer["name"] for layer in recurrent] == ["weight_ih_l0", "weight_hh_l0"]
    assert [layer["num_active"] for layer in recurrent] == [8, 6]
    assert [layer["num_active"] for layer in convolutions] == [4, 3]


def test_what_was_pruned_can_be_pruned_again(checkpoint: Path) -> None:
    good("prune", "net.pt", "--model", "own_net:build", "--sparsity", "0.8", "--out", "once.safetensors")

    good("prune", "once.safetensors", "--model", "own_net:build", "--sparsity", "0.95", "--out", "twice.safetensors")

    assert Path("twice.safetensors").stat().st_size < Path("once.safetensors").stat().st_size


def test_an_existing_file_is_not_replaced_unasked(checkpoint: Path) -> None:
    Path("there.safetensors").write_text("mine")

    line = refused("prune", "net.pt", "--model", "own_net:build", "--out", "there.safetensors")

    assert "there.safetensors exists; give --overwrite" in line
    assert Path("there.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.pt", "--model", "own_net:build"], "there is no file gone.pt"),
        (["net.pt", "--model", "own_net:missing"], "has no function 'missing'"),
        (["net.pt", "--model", "own_net:sized"], "own_net:sized asks for (num_features, num_classes); give --data"),
        (["net.pt", "--model", "mlp:40x1"], "needs the sizes of its data; give --data"),
        (["net.pt", "--model", "own_net:convolutions"], "net.pt is of another model"),
        (["net.pt", "--model", "own_net:build", "--method", "snipp"], "did you mean snip"),
        (["net.pt", "--model", "own_net:build", "--method", "snip"], "needs data, and none was given"),
        (["net.pt", "--model", "own_net:build", "--sparsity", "1.5"], "sparsity must lie in [0, 1), got 1.5"),
        (["net.pt", "--model", "own_net:build", "--budget", "fair"], "unknown budget 'fair'; known are uniform"),
        (["net.pt", "--model", "own_net:build", "--pattern", "nm:2"], "unknown pattern 'nm:2'"),
        (["net.pt", "--model", "own_net:build", "--pattern", "nm:2:4"], "the nearest is 0.5"),
        (["net.pt", "--model", "own_net:build", "--out", "no/where.safetensors"], "there is no folder no"),
        (["net.pt", "--model", "own_net:build", "--include", "nothing"], "matches nothing"),
        (["net.pt", "--model", "own_net:build", "--probes", "8"], "num_probes has no effect on magnitude"),
        (["own_net.py", "--model", "own_net:build"], "is no checkpoint that can be read safely"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(checkpoint: Path, words: list[str], message: str) -> None:
    before = {path for path in checkpoint.parent.iterdir() if path.name != "__pycache__"}

    line = refused("prune", *words)

    assert message in line
    assert {path for path in checkpoint.parent.iterdir() if path.name != "__pycache__"} == before


def test_a_checkpoint_that_would_run_code_is_refused(checkpoint: Path) -> None:
    torch.save(nn.Linear(2, 2), "whole.pt")

    assert "is no checkpoint that can be read safely" in refused("prune", "whole.pt", "--model", "own_net:build")
