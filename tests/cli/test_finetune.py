import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import files, training

from .shell import Screen, good, gossamer, listing, refused

BUILD = """
from torch import nn

def sized(num_features, num_classes):
    return nn.Sequential(nn.Linear(num_features, 40), nn.ReLU(), nn.Linear(40, num_classes))

def loud(num_features, num_classes):
    print("hello")
    return sized(num_features, num_classes)

def tied(num_features, num_classes):
    model = nn.Sequential(nn.Linear(num_features, 40), nn.Linear(40, 40), nn.Linear(40, 40), nn.Linear(40, num_classes))
    model[2].weight = model[1].weight
    return model

def normalised(num_features, num_classes):
    return nn.Sequential(nn.Linear(num_features, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))

class Impatient(nn.Module):
    def __init__(self, num_features, num_classes):
        super().__init__()
        self.layer = nn.Linear(num_features, num_classes)

    def forward(self, inputs):
        raise KeyboardInterrupt
"""
NET = ("net.pt", "--model", "net_to_tune:sized", "--data", "digits")
TUNE = ("--finetune", "1", "--lr", "0.1")


@pytest.fixture(autouse=True)
def checkpoints(own_folder: Path) -> None:
    (own_folder / "net_to_tune.py").write_text(BUILD)
    for seed, name in enumerate(("net.pt", "first.pt")):
        torch.save(network(seed).state_dict(), own_folder / name)
    gs.save(network(2), own_folder / "early.safetensors")


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))


def weights(path: str) -> dict[str, Tensor]:
    """The weights of a written file, as a dense model has them."""
    return dict(gs.to_dense(gs.load(path, network(0))).state_dict())


def files_here() -> list[str]:
    return [name for name in listing(Path()) if "__pycache__" not in name]


def test_what_is_left_is_trained_on_and_what_is_gone_stays_gone() -> None:
    good("prune", *NET, "--out", "cut.safetensors")

    fields = good("prune", *NET, *TUNE, "--out", "tuned.safetensors", "--json").json

    cut, tuned = weights("cut.safetensors"), weights("tuned.safetensors")
    assert torch.equal(cut["0.weight"] != 0, tuned["0.weight"] != 0)
    assert not torch.equal(cut["0.weight"], tuned["0.weight"])
    assert fields["accuracy_finetuned"] > fields["accuracy_after"] + 0.1
    assert fields["file_bytes"] < 1.02 * Path("cut.safetensors").stat().st_size
    assert files.read("tuned.safetensors").metadata == {
        "pruned_by": "magnitude",
        "sparsity": "0.9",
        "finetune_epochs": "1",
    }


def test_the_accuracies_are_those_of_the_models_and_the_settings_are_said() -> None:
    words = ("--decay", "cosine", "--batch-size", "50", "--weight-decay", "0", "--momentum", "0.5", "--seed", "3")

    fields = good("prune", *NET, *TUNE, *words, "--optimizer", "adamw", "--out", "x.safetensors", "--json").json

    digits = gs.data.load("digits")
    assert fields["accuracy_before"] == training.evaluate(gs.pruning.restore("net.pt", network(0)), digits)[1]
    assert fields["accuracy_finetuned"] == training.evaluate(gs.load("x.safetensors", network(0)), digits)[1]
    assert fields["finetune"].pop("seconds") > 0
    assert fields["finetune"] == {
        "epochs": 1,
        "batch_size": 50,
        "optimizer": "adamw",
        "learning_rate": 0.1,
        "decay": "cosine",
        "momentum": 0.5,
        "weight_decay": 0.0,
        "seed": 3,
        "distill": False,
        "rewind": None,
        "run": True,
    }


def test_the_table_tells_the_accuracy_before_after_the_cut_and_after_the_training() -> None:
    out = good("prune", *NET, *TUNE).out

    assert re.search(
        r"\naccuracy [\d.]+ % before, [\d.]+ % after the cut, [\d.]+ % after 1 epoch of fine-tuning\n", out
    )


@pytest.mark.parametrize("option", ["--distill", "--seed=1", "--lr=0.2", "--decay=cosine", "--weight-decay=0.1"])
def test_the_same_command_gives_the_same_file_and_each_option_another(option: str) -> None:
    for name, words in (("a", ()), ("b", ()), ("c", (option,))):
        good("prune", *NET, *TUNE, *words, "--out", f"{name}.safetensors")

    once, again, other = (weights(f"{name}.safetensors")["0.weight"] for name in "abc")
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_teacher_is_the_model_before_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    real = training.finetune

    def remember(*args: Any, **kwargs: Any) -> nn.Module:
        given.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "finetune", remember)

    norm = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    torch.save(norm.state_dict(), "norm.pt")
    good("prune", "norm.pt", "--model", "net_to_tune:normalised", "--data", "digits", *TUNE, "--distill")

    state = given[0]["teacher"].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in norm.state_dict().items())


def test_rewound_survivors_start_from_the_earlier_checkpoint() -> None:
    good("prune", *NET, "--out", "cut.safetensors")

    words = ("--finetune", "1", "--rewind", "first.pt", "--lr", "1e-30", "--out", "rewound.safetensors")
    good("prune", *NET, *words)

    mask = weights("cut.safetensors")["0.weight"] != 0
    assert torch.equal(weights("rewound.safetensors")["0.weight"], network(1).state_dict()["0.weight"] * mask)


def test_a_sparse_file_is_rewound_to_a_dense_checkpoint() -> None:
    good("prune", *NET, "--sparsity", "0.8", "--out", "once.safetensors")

    words = ("--finetune", "1", "--rewind", "net.pt", "--lr", "1e-30", "--out", "twice.safetensors")
    fields = good("prune", "once.safetensors", *NET[1:], *words, "--json").json

    twice = weights("twice.safetensors")["0.weight"]
    assert torch.equal(twice[twice != 0], network(0).state_dict()["0.weight"][twice != 0])
    assert fields["dense_bytes"] == sum(value.nbytes for value in network(0).state_dict().values())


def test_zeros_of_layers_that_stay_dense_are_held() -> None:
    good("prune", *NET, *TUNE, "--sparsity", "0.3", "--out", "tuned.safetensors")
    good("prune", *NET, "--sparsity", "0.3", "--out", "cut.safetensors")

    cut, tuned = weights("cut.safetensors"), weights("tuned.safetensors")
    assert not files.read("tuned.safetensors").sparse_layers
    assert torch.equal(cut["0.weight"] != 0, tuned["0.weight"] != 0)


def test_a_loss_that_diverges_leaves_the_old_file() -> None:
    Path("mine.safetensors").write_text("mine")
    before = files_here()

    line = refused("prune", *NET, "--finetune", "1", "--lr", "1e20", "--out", "mine.safetensors", "--overwrite")

    assert re.search(r"the loss became (nan|inf) at step \d+ of 12 of the fine-tuning; nothing was written", line)
    assert Path("mine.safetensors").read_text() == "mine"
    assert files_here() == before


def test_a_dry_run_does_not_train_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(training, "finetune")
    before = files_here()

    out = good("prune", *NET, "--finetune", "7", "--dry-run").out
    fields = good("prune", *NET, "--finetune", "7", "--dry-run", "--json").json

    assert out.endswith("\n7 epochs of fine-tuning not run, nothing was written (--dry-run)\n")
    assert (fields["finetune"]["epochs"], fields["finetune"]["run"]) == (7, False)
    assert "accuracy_finetuned" not in fields
    assert files_here() == before


def test_ctrl_c_ends_the_training_after_its_step_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.safetensors").write_text("mine")
    before = files_here()
    real = torch.optim.SGD.step

    def step(self: torch.optim.SGD) -> None:
        signal.raise_signal(signal.SIGINT)
        real(self)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    result = gossamer("prune", *NET, *TUNE, "--out", "mine.safetensors", "--overwrite")

    assert result == (130, "", "gossamer: fine-tuning stopped after step 1 of 12; nothing was written\n")
    assert Path("mine.safetensors").read_text() == "mine"
    assert files_here() == before


def test_ctrl_c_before_the_training_is_one_line_too() -> None:
    torch.save({f"layer.{name}": value for name, value in nn.Linear(64, 10).state_dict().items()}, "impatient.pt")

    result = gossamer("prune", "impatient.pt", "--model", "net_to_tune:Impatient", "--data", "digits")

    assert result == (130, "", "gossamer: interrupted; nothing was written\n")


def test_a_bar_shows_the_steps_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")

    err = gossamer("prune", *NET, *TUNE, stderr=Screen).err

    assert "fine-tuning" in err
    assert "12/12" in err


def test_with_json_a_model_that_prints_does_so_on_stderr() -> None:
    result = gossamer("prune", "net.pt", "--model", "net_to_tune:loud", "--data", "digits", "--json")

    assert result.json["sparsity"] == pytest.approx(0.9)
    assert result.err == "hello\n"


def test_layers_that_share_a_weight_stay_dense_and_the_others_become_sparse() -> None:
    torch.save(
        {
            f"{layer}.{name}": value
            for layer, sizes in enumerate([(64, 40), (40, 40), (40, 40), (40, 10)])
            for name, value in nn.Linear(*sizes).state_dict().items()
        },
        "tied.pt",
    )

    layers = good("prune", "tied.pt", "--model", "net_to_tune:tied", "--data", "digits", *TUNE, "--json").json["layers"]

    stored = {layer["name"]: layer["stored"] for layer in layers}
    assert stored == {"0.weight": "truly sparse", "1.weight": "dense", "3.weight": "truly sparse"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--distill"], "--distill has no effect without training; give --finetune, or leave it out"),
        (["--lr", "0.01", "--weight-decay", "0"], "--lr, --weight-decay has no effect without training"),
        (["--batch-size", "1", "--rewind", "first.pt"], "--rewind, --batch-size has no effect without training"),
        (["--optimizer", "sgd"], "--optimizer has no effect"),
        (["--decay", "none"], "--decay has no effect"),
        (["--momentum", "0"], "--momentum has no effect"),
        (["--finetune", "-1"], "--finetune must be 0 or more passes over the training data, got -1"),
        (["--finetune", "1", "--data", ""], "--finetune trains on the rows of a data set, and none was given"),
        (["--finetune", "1", "--lr", "0"], "learning_rate must lie in (0, "),
        (["--finetune", "1", "--decay", "linear"], "decay must be one of none, cosine, got 'linear'"),
        (["--finetune", "1", "--rewind", "gone.pt"], "there is no file gone.pt"),
        (
            ["--finetune", "1", "--rewind", "early.safetensors", "--out", "early.safetensors", "--overwrite"],
            "early.safetensors is read here; give another --out",
        ),
        (["--out", "net.pt", "--overwrite"], "--out must be a file that ends in .safetensors, got net.pt"),
        (["--out", ".", "--overwrite"], "--out must be a file that ends in .safetensors, got ."),
        (["--first", "first.pt"], "--first has no effect on magnitude"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_done(words: list[str], message: str) -> None:
    before = {name: Path(name).read_bytes() for name in files_here()}

    line = refused("prune", *NET, *words)

    assert message in line
    assert {name: Path(name).read_bytes() for name in files_here()} == before


def test_what_cannot_be_trained_is_found_before_it_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    torch.save(sizes.state_dict(), "norm.pt")
    monkeypatch.delattr(gs.pruning, "prune")
    words = ("norm.pt", "--model", "net_to_tune:normalised", "--data", "digits")

    line = refused("prune", *words, "--finetune", "1", "--batch-size", "1")

    assert line.startswith(
        "net_to_tune:normalised cannot be trained, ValueError: Expected more than 1 value per channel"
    )
