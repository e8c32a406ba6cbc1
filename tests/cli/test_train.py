import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer import files
from gossamer.nn import SparseLinear

from .shell import TINY, assert_same_run, events, good, listing, model, refused, timeless

RESULTS = ["checkpoint.pt", "config.toml", "metrics.jsonl", "model.safetensors", "report.html"]
NUM_WEIGHTS = 64 * 16 + 16 * 16 + 16 * 10


def end(folder: Path) -> dict[str, Any]:
    return events(folder)[-1]


def evaluated(folder: Path) -> list[int]:
    return [event["num_active"] for event in events(folder) if event["event"] == "evaluation"]


def test_a_run_leaves_a_folder_of_five_files_and_says_where(own_folder: Path, whole_page: None) -> None:
    out = good("train", *TINY).out

    assert listing(Path("runs/digits-set")) == RESULTS
    assert "SET on digits, mlp:16x2, 3 epochs" in out
    assert out.endswith("model  runs/digits-set/model.safetensors\nreport runs/digits-set/report.html\n")
    assert "plotly" in Path("runs/digits-set/report.html").read_text()
    assert "\x1b" not in out


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("method", ["dense", "static", "set", "rigl", "gmp", "truly_sparse"])
def test_every_method_runs_on_every_storage_with_every_optimizer(method: str, storage: str, optimizer: str) -> None:
    words = ["--method", method, "--storage", storage, "--optimizer", optimizer, "--update-every", "2", "--lr", "0.01"]
    good("train", "--out", "x", *TINY, *words)

    start, budget = events(Path("x"))[0], round(0.2 * NUM_WEIGHTS)
    assert start["storage"] == ("dense" if method == "dense" else "truly sparse" if storage == "sparse" else "masked")
    first, last = evaluated(Path("x"))[0], evaluated(Path("x"))[-1]
    assert first == (NUM_WEIGHTS if method in ("dense", "gmp") else budget)
    if method == "truly_sparse":  # whole neurons go
        assert 0 < last < budget
    else:
        assert last == (NUM_WEIGHTS if method == "dense" else budget)
    assert end(Path("x"))["num_active"] == last
    assert end(Path("x"))["num_weights"] == NUM_WEIGHTS


PRUNED_FIRST = ["snip", "iterative_snip", "force", "grasp", "synflow", "magnitude_init"]
MASKED_ONLY = ["dsd", "iht", "ac_dc", "dns", "dpf"]


@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("method", PRUNED_FIRST)
def test_what_is_pruned_before_training_has_its_weights_from_the_first_step_to_the_last(
    method: str, storage: str
) -> None:
    good("train", "--out", "x", *TINY, "--method", method, "--storage", storage)

    assert set(evaluated(Path("x"))) == {round(0.2 * NUM_WEIGHTS)}
    before, after = (
        [layer["num_active"] for layer in e["layers"]] for e in events(Path("x")) if e["event"] == "layers"
    )
    assert before == after
    assert sum(after) == round(0.2 * NUM_WEIGHTS)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", MASKED_ONLY)
def test_what_starts_dense_and_masked_ends_as_its_method_says(method: str, optimizer: str) -> None:
    words = ["--method", method, "--optimizer", optimizer, "--lr", "0.01", "--update-every", "2"]
    good("train", "--out", "x", *TINY, *words)

    first, *_, last = evaluated(Path("x"))
    budget = round(0.2 * NUM_WEIGHTS)
    assert events(Path("x"))[0]["storage"] == "masked"
    assert first == NUM_WEIGHTS
    assert (last == NUM_WEIGHTS) if method == "dsd" else (last == budget or method == "dns")
    assert budget / 2 < last < 2 * budget or method == "dsd"
    assert any(e["num_active"] < 2 * budget for e in events(Path("x")) if e["event"] == "update")


def test_truly_sparse_storage_is_refused_where_it_cannot_be_and_nothing_is_written() -> None:
    for method in MASKED_ONLY:
        line = refused("train", "--out", "x", *TINY, "--method", method, "--storage", "sparse")
        assert line.startswith(f"{method} can only be masked")
        assert refused("compare", "--out", "x", *TINY, "--methods", f"set,{method}", "--storage", "sparse") == line
        assert not Path("x").exists()


def test_a_layer_that_lost_all_its_weights_is_named() -> None:
    # The first values of the first layer are the smallest, as its fan-in is the largest.
    out = good("train", "--out", "x", *TINY, "--method", "magnitude_init", "--sparsity", "0.9").out

    assert end(Path("x"))["empty_layers"] == ["0"]
    assert "magnitude at start: layer 0 has no weight left, so nothing of the inputs comes through.\n" in out


@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("sparsity", ["0.01", "0.5", "0.937", "0.99"])
def test_gmp_ends_at_the_exact_count_of_each_layer(storage: str, sparsity: str) -> None:
    words = ["--method", "gmp", "--storage", storage, "--update-every", "3", "--sparsity", sparsity]
    good("train", "--out", "x", *TINY, *words)

    layers = next(e["layers"] for e in events(Path("x")) if e["event"] == "layers" and e["when"] == "after")
    kept = 1 - float(sparsity)
    assert [layer["num_active"] for layer in layers] == [round(kept * n) for n in (64 * 16, 16 * 16, 16 * 10)]


@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize(
    "words",
    [
        ["static", "--epsilon", "100"],
        *([method, "--sparsity", "0"] for method in ("static", "set", "rigl", "gmp", "snip")),
    ],
)
def test_a_sparsity_of_zero_is_a_network_that_lacks_nothing(words: list[str], storage: str) -> None:
    good("train", "--out", "x", *TINY, "--storage", storage, "--update-every", "2", "--method", *words)

    assert set(evaluated(Path("x"))) == {NUM_WEIGHTS}


@pytest.mark.parametrize("method", MASKED_ONLY)
def test_a_sparsity_of_zero_masks_nothing(method: str) -> None:
    good("train", "--out", "x", *TINY, "--sparsity", "0", "--update-every", "2", "--method", method)

    assert set(evaluated(Path("x"))) == {NUM_WEIGHTS}


@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("method", ["static", "set", "rigl", "gmp", "truly_sparse", "snip", "grasp"])
def test_a_layer_may_be_down_to_one_weight(method: str, storage: str) -> None:
    words = ["--method", method, "--storage", storage, "--update-every", "2", "--sparsity", "0.998"]
    good("train", "--out", "x", *TINY, *words)

    layers = next(e["layers"] for e in events(Path("x")) if e["event"] == "layers" and e["when"] == "after")
    assert min(layer["num_active"] for layer in layers) <= 1
    assert end(Path("x"))["status"] == "finished"


def test_epsilon_gives_each_layer_its_number_of_weights() -> None:
    good("train", "--out", "x", *TINY, "--epsilon", "2")

    shapes = {"0": (16, 64), "2": (16, 16), "4": (10, 16)}
    saved = files.read("x/model.safetensors")
    assert saved.sparse_layers == shapes
    for name, (rows, columns) in shapes.items():
        assert saved.tensors[f"{name}.values"].numel() == 2 * (rows + columns)


def test_a_batch_larger_than_the_data_is_one_step_an_epoch() -> None:
    good("train", "--out", "x", *TINY, "--batch-size", "1000")

    assert events(Path("x"))[0]["num_steps"] == 3


@pytest.mark.parametrize("rows", ["1", "2", "41"])
def test_few_rows_are_enough(rows: str) -> None:
    good("train", "--out", "x", *TINY, "--train-size", rows, "--test-size", "1")

    assert end(Path("x"))["status"] == "finished"


def test_json_is_one_object_on_stdout_and_nothing_else() -> None:
    result = good("train", "--out", "x", *TINY, "--json", "--seed", "3")

    fields = result.json["results"]["SET"][0]
    assert result.json["folder"] == "x"
    assert result.json["config"]["sparsity"] == 0.8
    assert (fields["seed"], fields["status"]) == (3, "finished")
    assert fields["num_active"] == 288
    assert result.out.endswith("}\n")
    assert "NaN" not in result.out


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        good("train", "--out", out, *TINY, "--seed", seed, "--dropout", "0.2")

    assert_same_run(Path("a"), Path("b"))
    assert not model(Path("a"))["0.bias"].equal(model(Path("c"))["0.bias"])


def test_the_run_does_not_disturb_the_random_numbers_of_its_caller() -> None:
    before = torch.get_rng_state()

    good("train", "--out", "x", *TINY, "--dropout", "0.2")

    assert torch.equal(torch.get_rng_state(), before)


def test_a_learning_rate_that_falls_ends_near_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    good("train", "--out", "x", *TINY, "--decay", "cosine")

    state = torch.load("x/checkpoint.pt", weights_only=True)
    assert 0 < state["optimizer"]["param_groups"][0]["lr"] < 0.05 * 0.02


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", wanted.append)
    monkeypatch.setattr("os.cpu_count", lambda: 4)

    good("train", "--out", "x", *TINY, "--threads", "3")

    assert wanted == [3]


def test_config_toml_holds_every_setting_and_the_command_that_repeats_it() -> None:
    words = ["train", "--out", "a b/ünï 🕸 'x'", *TINY, "--lr", "0.02"]
    good(*words)
    good(*words, "--resume")
    folder = Path("a b/ünï 🕸 'x'")

    config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    assert (config["learning_rate"], config["method"], config["sparsity"]) == (0.02, "set", 0.8)
    command = shlex.split(config["command"])
    assert command == ["gossamer", *words]
    first = timeless(folder)
    good(*command[1:], "--overwrite")
    assert timeless(folder) == first


def test_paths_may_hold_anything(whole_page: None) -> None:
    folder = Path("[red]ä b[/x] 🕸")  # two folders, and what rich takes for colours
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).normal(size=(60, 4))
    data = folder / "données [bold] 🕸.csv"
    data.write_text("".join(f"{','.join(map(str, row))},{number % 3}\n" for number, row in enumerate(rows)))

    small = ["--model", "mlp:8x2", "--epochs", "1", "--sparsity", "0.5"]
    out = good("train", "--data", str(data), "--out", str(folder / "out"), *small).out

    assert f"model  {folder}/out/model.safetensors" in out
    assert "données [bold] 🕸" in out
    assert f"{folder}/out/model.safetensors" in good("inspect", str(folder / "out")).out


def test_an_npz_of_the_users_own_trains() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2, 3)).astype(np.float32)
    np.savez("own.npz", x_train=rows[:40], y_train=np.arange(40) % 3, x_test=rows[40:], y_test=np.arange(20) % 3)

    good("train", "--data", "own.npz", "--model", "mlp:8x2", "--epochs", "1", "--sparsity", "0.5")

    assert files.read("runs/own-set/model.safetensors").sparse_layers["0"] == (8, 6)


def test_the_saved_model_loads_into_the_architecture() -> None:
    good("train", "--out", "x", *TINY, "--storage", "masked")
    linear = torch.nn.Linear
    architecture = torch.nn.Sequential(linear(64, 16), torch.nn.ReLU(), linear(16, 16), torch.nn.ReLU(), linear(16, 10))

    loaded = files.load("x/model.safetensors", architecture)

    layers = [layer for layer in loaded.modules() if isinstance(layer, SparseLinear)]
    assert sum(layer.num_active for layer in layers) == 288


def test_rigl_keeps_the_weights_that_it_grew_and_that_are_still_zero() -> None:
    # Some pixels of the digits never vary: a weight grown there has no gradient and stays at its start, zero.
    good("train", "--out", "x", *TINY, "--method", "rigl", "--storage", "masked", "--sparsity", "0.01")

    saved = files.read("x/model.safetensors")
    stored = sum(saved.tensors[f"{name}.values"].numel() for name in saved.sparse_layers)
    dense = sum(saved.tensors[name].numel() for name in saved.tensors if name.endswith("weight"))
    assert stored + dense == end(Path("x"))["num_active"] == evaluated(Path("x"))[-1]


def test_without_the_extra_for_the_page_a_run_still_shows_its_results(
    monkeypatch: pytest.MonkeyPatch, whole_page: None
) -> None:
    def missing(folder: Path) -> Path:
        raise ImportError("the report needs plotly, which is not installed")

    monkeypatch.setattr("gossamer.cli.run.write_report", missing)

    out = good("train", "--out", "x", *TINY).out

    assert "SET" in out
    assert out.endswith("report none: the report needs plotly, which is not installed\n")


def test_every_line_of_the_diary_is_strict_json() -> None:
    good("train", "--out", "x", *TINY, "--method", "rigl")

    def fail(text: str) -> None:
        raise AssertionError(text)

    for line in Path("x/metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=fail)
