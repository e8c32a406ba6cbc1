import errno
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer import files

from .shell import TINY, good, refused

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

def normed():
    return nn.Sequential(nn.Linear(64, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 10))
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


def test_pruned_convolutions_and_recurrent_layers_are_written_truly_sparse_and_load(checkpoint: Path) -> None:
    dense = {"lstm": nn.LSTM(5, 4), "conv": nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))}
    for name, function in (("lstm", "recurrent"), ("conv", "convolutions")):
        torch.save(dense[name].state_dict(), f"{name}.pt")
        words = (
            "prune",
            f"{name}.pt",
            "--model",
            f"own_net:{function}",
            "--sparsity",
            "0.9",
            "--out",
            f"{name}.safetensors",
        )
        fields = good(*words, "--json").json

        assert {layer["stored"] for layer in fields["layers"]} == {"truly sparse"}
        model = gs.load(f"{name}.safetensors", dense[name])
        found = [weight.num_active for weight in gs.prunable(model)]
        assert found == [layer["num_active"] for layer in fields["layers"]]
    assert isinstance(gs.load("lstm.safetensors", dense["lstm"]), gs.nn.SparseLSTM)
    assert isinstance(gs.load("conv.safetensors", dense["conv"]).get_submodule("0"), gs.nn.SparseConv2d)
    again = good("prune", "conv.safetensors", "--model", "own_net:convolutions", "--sparsity", "0.95", "--json").json
    assert {layer["stored"] for layer in again["layers"]} == {"truly sparse"}


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


DATA = ("--model", "own_net:sized", "--data", "digits")


def written(*words: str) -> list[Tensor]:
    """The weights that a command leaves, layer by layer."""
    good("prune", "net.pt", *words, "--out", "written.safetensors", "--overwrite")
    return weights(gs.load("written.safetensors", architecture()))


def weights(model: nn.Module) -> list[Tensor]:
    return [layer.weight for layer in gs.to_dense(model).modules() if isinstance(layer, nn.Linear)]


def architecture() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))


def in_python(**settings: Any) -> list[Tensor]:
    """The same by the library: what the command line must do and nothing else."""
    digits = gs.data.load("digits")
    rows = slice(0, 150)
    batches = list(zip(digits.train_inputs[rows].split(100), digits.train_targets[rows].split(100), strict=True))
    trained = gs.pruning.restore("net.pt", architecture())
    generator = torch.Generator().manual_seed(7)
    given = {"sparsity": 0.8, "data": batches, "loss_fn": cross_entropy, "generator": generator, **settings}
    return weights(gs.prune(trained, **given))


def softened(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs / 200, targets)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--method", "snip"], {"criterion": gs.criteria.snip, "budget": gs.budgets.global_}),
        (
            ["--method", "snip", "--rounds", "3"],
            {"criterion": gs.criteria.snip, "budget": gs.budgets.global_, "rounds": 3},
        ),
        (
            ["--method", "iterative_snip"],
            {"criterion": gs.criteria.snip, "budget": gs.budgets.global_, "rounds": 100},
        ),
        (
            ["--method", "force", "--rounds", "5", "--sparsity", "0.95"],
            {
                "criterion": gs.criteria.snip,
                "budget": gs.budgets.global_,
                "rounds": 5,
                "returning": True,
                "sparsity": 0.95,
            },
        ),
        (
            ["--method", "grasp"],
            {"criterion": gs.criteria.grasp, "budget": gs.budgets.global_, "loss_fn": softened},
        ),
        (["--method", "random"], {"criterion": gs.criteria.random}),
        (["--method", "apoz"], {"criterion": gs.criteria.apoz, "pattern": gs.patterns.row()}),
        (["--method", "wanda"], {"criterion": gs.criteria.wanda, "pattern": gs.patterns.constant_fan_in()}),
        (["--method", "sparsegpt"], {"criterion": gs.solvers.sparsegpt}),
        (["--include", "0.*"], {"include": ["0.*"]}),
        (["--include", "0.*", "--include", "2.*", "--exclude", "0.*"], {"exclude": ["0.*"]}),
        (["--budget", "uniform_plus", "--sparsity", "0.1"], {"budget": gs.budgets.uniform_plus, "sparsity": 0.1}),
        (["--method", "lamp"], {"budget": gs.budgets.lamp}),
        (["--method", "lamp", "--budget", "uniform"], {}),
        (["--budget", "global"], {"budget": gs.budgets.global_}),
        (["--budget", "er"], {"budget": gs.budgets.er}),
        (["--budget", "erk"], {"budget": gs.budgets.erk}),
        (["--budget", "lamp"], {"budget": gs.budgets.lamp}),
        (["--pattern", "row"], {"pattern": gs.patterns.row()}),
        (["--pattern", "column"], {"pattern": gs.patterns.column()}),
        (["--pattern", "constant_fan_in"], {"pattern": gs.patterns.constant_fan_in()}),
        (["--pattern", "nm:1:4", "--sparsity", "0.75"], {"pattern": gs.patterns.nm(1, 4), "sparsity": 0.75}),
        (["--pattern", "block:2x4"], {"pattern": gs.patterns.block(2, 4)}),
    ],
)
def test_each_option_means_what_it_means_in_the_library(
    checkpoint: Path, words: list[str], settings: dict[str, Any]
) -> None:
    mine = written(*DATA, "--sparsity", "0.8", "--samples", "150", "--seed", "7", *words)

    assert all(torch.equal(one, other) for one, other in zip(mine, in_python(**settings), strict=True))


def test_a_dry_run_may_name_a_file_that_exists(checkpoint: Path) -> None:
    Path("there.safetensors").write_text("mine")

    good("prune", "net.pt", *DATA, "--dry-run", "--out", "there.safetensors")

    assert Path("there.safetensors").read_text() == "mine"


def test_what_is_said_of_accuracy_paths_and_bytes_is_so(checkpoint: Path) -> None:
    out = good("prune", "net.pt", *DATA, "--sparsity", "0.95", "--seed", "7").out
    fields = good("prune", "net.pt", *DATA, "--sparsity", "0.95", "--dry-run", "--json").json

    model = gs.load("net-magnitude-0.95.safetensors", architecture())
    before = gs.pruning.restore("net.pt", architecture())
    digits = gs.data.load("digits")
    right = [
        float((one(digits.test_inputs).argmax(1) == digits.test_targets).double().mean()) for one in (before, model)
    ]
    assert [fields["accuracy_before"], fields["accuracy_after"]] == pytest.approx(right)
    assert fields["bytes"] == sum(value.nbytes for value in model.state_dict().values())
    assert fields["dense_bytes"] == sum(value.nbytes for value in before.state_dict().values())
    into, out_of = (weight != 0 for weight in weights(model))
    lost = int(into[~out_of.any(0)].sum()) + int(out_of[:, ~into.any(1)].sum())
    assert sum(layer["num_active"] for layer in fields["layers"]) - fields["num_on_a_path"] == lost > 0
    assert f"{lost} of the 148 weights that stay lie on no path" in out
    assert f"{fields['dense_bytes'] / fields['bytes']:.1f} times less than the dense" in out


def test_where_every_weight_is_on_a_path_nothing_is_said_of_paths(checkpoint: Path) -> None:
    assert "on no path" not in good("prune", "net.pt", *DATA, "--sparsity", "0.1", "--dry-run").out


def test_the_folder_of_a_run_is_a_checkpoint(checkpoint: Path) -> None:
    good("train", "--method", "dense", "--out", "x", *TINY)

    good("prune", "x", "--model", "mlp:16x2", "--data", "digits")
    line = refused("prune", ".", "--model", "mlp:16x2", "--data", "digits")

    assert Path("x/model-magnitude-0.9.safetensors").is_file()
    assert line == "there is no model.safetensors in .; give the folder of a run, or a .safetensors file"


def test_a_disk_that_is_full_is_one_line(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "save", no_space)

    line = refused("prune", "net.pt", *DATA)

    assert (
        line == "cannot write net-magnitude-0.9.safetensors: the disk is full; nothing was written, give another --out"
    )


def test_a_network_of_another_activation_is_not_taken_for_a_plain_one(checkpoint: Path) -> None:
    good("train", "--method", "truly_sparse", "--out", "x", *TINY)

    line = refused("prune", "x", "--model", "mlp:16x2", "--data", "digits", "--sparsity", "0.95")

    assert line == "x/model.safetensors was trained with All-ReLU, mlp:16x2 has ReLU; give a function that builds it"


def test_data_folder_and_threads_are_looked_at(checkpoint: Path) -> None:
    assert "no/such" in refused(
        "prune", "net.pt", "--model", "own_net:sized", "--data", "mnist", "--data-dir", "no/such"
    )
    assert "--threads must lie in 0 to" in refused("prune", "net.pt", *DATA, "--threads", "100000")


# The factors of a normalisation need one, which this network has not; see the next test.
@pytest.mark.parametrize("method", [row.name for row in gs.pruning.PRUNING_METHODS if row.name != "batch_norm_scale"])
def test_a_truly_sparse_file_is_pruned_again_by_every_method_and_what_is_gone_stays_gone(
    checkpoint: Path, method: str
) -> None:
    before = written("--model", "own_net:build", "--sparsity", "0.6")
    Path("written.safetensors").rename("once.safetensors")
    rows = ["--method", method, "--sparsity", "0.8", "--samples", "60", "--rounds", "1"]
    rows += ["--first", "net.pt"] if method == "magnitude_increase" else []

    fields = good("prune", "once.safetensors", *DATA, *rows, "--out", "twice.safetensors", "--json").json

    after = weights(gs.load("twice.safetensors", architecture()))
    assert not any(bool((now != 0)[then == 0].any()) for then, now in zip(before, after, strict=True))
    assert sum(int(now.count_nonzero()) for now in after) < sum(int(then.count_nonzero()) for then in before)
    assert [layer["num_active"] for layer in fields["layers"]] == [int(now.count_nonzero()) for now in after]


def test_outputs_that_their_normalisation_scales_down_go(checkpoint: Path) -> None:
    model: Any = nn.Sequential(nn.Linear(64, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 10))
    model[1].weight.data.copy_(torch.arange(40.0) - 19.75)
    torch.save(model.state_dict(), "normed.pt")
    words = ("normed.pt", "--model", "own_net:normed", "--data", "digits", "--method", "batch_norm_scale")

    good("prune", *words, "--sparsity", "0.5", "--out", "slim.safetensors")

    slim: Any = gs.load("slim.safetensors", model)
    left = gs.to_dense(slim)[0].weight.any(1).nonzero().flatten().tolist()  # type: ignore[index]
    assert left == [*range(10), *range(30, 40)]


def test_erk_looks_at_the_kernels_of_convolutions(checkpoint: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)).state_dict(), "conv.pt")
    words = ("conv.pt", "--model", "own_net:convolutions", "--sparsity", "0.5", "--dry-run", "--json", "--budget")

    by_kernel, plain = (good("prune", *words, name).json["layers"] for name in ("erk", "er"))

    wanted = gs.budgets.erk({"0.weight": (4, 1, 3, 3), "2.weight": (2, 16)}, sparsity=0.5)
    assert {layer["name"]: layer["num_active"] for layer in by_kernel} == wanted
    assert by_kernel != plain
