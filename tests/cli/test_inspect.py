import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gossamer import files
from gossamer.nn import SparseLinear, sparsify

from .shell import TINY, good, refused


def saved(*modules: nn.Module) -> str:
    files.save(nn.Sequential(*modules), "model.safetensors")
    return "model.safetensors"


def sparse(in_features: int, out_features: int, sparsity: float) -> SparseLinear:
    generator = torch.Generator().manual_seed(0)
    return SparseLinear(in_features, out_features, sparsity=sparsity, generator=generator)


def test_every_layer_is_shown_with_its_counts_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    path = saved(sparse(64, 20, 0.9), nn.ReLU(), nn.Linear(20, 5))

    out = good("inspect", path).out

    rows = [line.split() for line in out.splitlines()]
    num_bytes = 4 * (128 + 21 + 128 + 65)  # values, rows, columns of the weights, columns
    assert rows[3][:9] == ["0", "truly", "sparse", "20", "x", "64", "128", "90.00", "%"]
    assert rows[3][9:11] == [f"{num_bytes / 1000:.3g}", "kB"]
    assert rows[4] == ["2.weight", "dense", "5", "x", "20", "100", "0.00", "%", "400", "B", "good"]
    assert out.splitlines()[-1].startswith("weights take ")
    assert "times smaller than the dense" in out


def test_json_is_one_object() -> None:
    path = saved(sparse(64, 20, 0.9), nn.ReLU(), nn.Linear(20, 5))

    result = good("inspect", path, "--json").json

    assert result["file_bytes"] == Path(path).stat().st_size
    assert [layer["num_active"] for layer in result["layers"]] == [128, 100]
    assert [layer["shape"] for layer in result["layers"]] == [[20, 64], [5, 20]]
    assert result["layers"][0]["sparsity"] == 0.9


def test_what_is_wrong_with_a_layer_is_said() -> None:
    linear = nn.Linear(4, 3)
    with torch.no_grad():
        linear.weight[1] = 0.0
        linear.weight[:, 2] = 0.0
        linear.weight[0, 0], linear.weight[2, 3] = float("nan"), float("inf")

    out = good("inspect", saved(linear)).out

    assert "dense with zeros" in out
    assert "1 outputs without input, 1 inputs not read, 2 weights NaN or infinite" in " ".join(out.split())


def test_a_model_full_of_nan_is_still_json() -> None:
    linear = nn.Linear(4, 3)
    nn.init.constant_(linear.weight, float("nan"))

    layer = good("inspect", saved(linear), "--json").json["layers"][0]

    assert (layer["num_not_finite"], layer["largest"]) == (12, 0.0)


def test_a_model_that_is_one_sparse_layer_has_a_nameless_layer() -> None:
    files.save(sparse(8, 6, 0.5), "one.safetensors")

    layers = good("inspect", "one.safetensors", "--json").json["layers"]

    assert [(layer["name"], layer["num_active"]) for layer in layers] == [("", 24)]


@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "bfloat16", "float16", "float64", "complex64", "int8", "uint16", "bool", "int64"]
)
def test_a_foreign_file_of_any_type_is_shown(dtype: str) -> None:
    tensor = torch.eye(4).to(getattr(torch, dtype))
    save_file({"[red]w[/x]": tensor, "b": torch.zeros(4)}, "foreign.safetensors")

    layers = good("inspect", "foreign.safetensors", "--json").json["layers"]

    assert [(layer["name"], layer["num_active"], layer["largest"]) for layer in layers] == [("[red]w[/x]", 4, 1.0)]
    assert layers[0]["bytes"] == layers[0]["dense_bytes"] == tensor.nbytes
    assert "[red]w[/x]" in good("inspect", "foreign.safetensors").out


def test_the_folder_of_a_run_stands_for_its_model() -> None:
    good("train", "--out", "x", *TINY)

    assert good("inspect", "x").out == good("inspect", "x/model.safetensors").out


def test_of_a_comparison_the_runs_to_inspect_are_named() -> None:
    good("compare", "--methods", "static,set", "--out", "x", *TINY)

    line = refused("inspect", "x")

    assert line == "x is a comparison; give one of its runs, in x/runs: set-seed0, static-seed0"
    good("inspect", "x/runs/set-seed0")


def test_a_run_without_a_model_yet_is_told_from_a_folder_without_a_run() -> None:
    good("train", "--out", "x", *TINY)
    Path("x/model.safetensors").unlink()
    Path("y").mkdir()

    assert refused("inspect", "x") == "the run in x has no model yet; its command with --resume finishes it"
    assert refused("inspect", "y").startswith("there is no model.safetensors in y; give the folder of a run")
    assert refused("inspect", "z").startswith("there is no file z")


def test_a_file_that_is_cut_or_something_else_is_one_clear_line() -> None:
    path = Path(saved(nn.Linear(4, 3)))
    whole = path.read_bytes()
    for number in (0, 5, 20, len(whole) - 1):
        path.write_bytes(whole[:number])
        assert refused("inspect", str(path)).startswith("model.safetensors is no whole safetensors file")
    path.write_text("hello world, this is a text and no model")
    assert refused("inspect", str(path)).startswith("model.safetensors is no whole safetensors file")


def test_a_damaged_topology_is_one_clear_line() -> None:
    tensors = files.read(saved(sparse(8, 6, 0.5))).tensors
    tensors["0.column_indices"] += 100
    save_file(tensors, "bad.safetensors", metadata={"format": "gossamer 1", "sparse_layers": '{"0": [6, 8]}'})

    assert refused("inspect", "bad.safetensors").startswith("bad.safetensors: layer '0' is damaged: column_indices run")


def test_a_file_without_matrices_is_refused() -> None:
    assert "holds no weight matrix" in refused("inspect", saved(nn.BatchNorm1d(3)))


@pytest.mark.parametrize("columns", ["40", "60", "80", "150"])
def test_the_table_fits_the_terminal_and_cuts_nothing(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = "encoder.layers.11.self_attention.output_projection.weight"
    save_file({name: torch.eye(1500)}, "long.safetensors")

    out = good("inspect", "long.safetensors").out

    assert "…" not in out
    assert max(map(len, out.splitlines()[1:-1])) <= int(columns)
    assert "1,500" in out
    assert "1500 x 1500" in out
    assert json.loads(good("inspect", "long.safetensors", "--json").out)["layers"][0]["name"] == name


def test_convolutions_and_recurrent_layers_are_shown_with_their_shapes() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(2), nn.GRU(9, 3))
    files.save(sparsify(dense, sparsity=0.5, generator=torch.Generator()), "images.safetensors")

    layers = good("inspect", "images.safetensors", "--json").json["layers"]

    shapes = {layer["name"]: layer["shape"] for layer in layers}
    assert shapes == {"0": [4, 2, 3, 3], "2.input_0": [9, 9], "2.hidden_0": [9, 3]}
    assert {layer["stored"] for layer in layers} == {"truly sparse"}
    assert sum(layer["num_active"] for layer in layers) == (72 + 81 + 27) // 2
    assert layers[0]["dense_bytes"] == 4 * 72
    assert "4 x 2 x 3 x 3" in good("inspect", "images.safetensors").out
