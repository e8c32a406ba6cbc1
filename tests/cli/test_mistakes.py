from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from .shell import TINY, events, good, gossamer, listing, model, refused


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--method", "riggl"], ["unknown method 'riggl'", "did you mean rigl or srigl?", "gossamer methods"]),
        (["--method", "SET"], ["did you mean set"]),
        (["--method", "truly-sparse"], ["did you mean truly_sparse?"]),
        (["--method", "zzz"], ["known are dense, static, set, rigl, "]),
        (["--sparsity", "1"], ["sparsity must lie in [0, 1), got 1.0"]),
        (["--sparsity", "-0.1"], ["sparsity must lie in [0, 1), got -0.1"]),
        (["--sparsity", "nan"], ["sparsity must lie in [0, 1), got nan"]),
        (["--sparsity", "95"], ["0.9 keeps one weight in ten"]),
        (["--epochs", "0"], ["epochs must be 1 or more, got 0"]),
        (["--batch-size", "0"], ["batch_size must be 1 or more"]),
        (["--lr", "0"], ["learning_rate must lie in (0, 3.4e+38), got 0.0"]),
        (["--batch-size", "99999999999999999999"], ["batch_size must lie in [1, 2147483648)"]),
        (["--epochs", "99999999999999999999"], ["epochs must lie in"]),
        (["--update-until", "2"], ["update_until must lie in [0, 1], got 2.0"]),
        (["--lr", "1e39"], ["learning_rate must lie in (0, 3.4e+38), got 1e+39"]),
        (["--lr", "nan"], ["learning_rate", "nan"]),
        (["--momentum", "1"], ["momentum must lie in [0, 1), got 1.0"]),
        (["--dropout", "1"], ["dropout must lie in [0, 1)"]),
        (["--weight-decay", "-1"], ["weight_decay", "got -1.0"]),
        (["--alpha", "inf"], ["alpha must lie in [-3.4e+38, 3.4e+38), got inf"]),
        (["--epsilon", "nan"], ["epsilon", "got nan"]),
        (["--epsilon", "5", "--method", "gmp"], ["--epsilon has no place in gmp", "--sparsity"]),
        (["--epsilon", "5", "--method", "snip"], ["--epsilon has no place in snip, which starts dense"]),
        (["--drop-fraction", "2"], ["drop_fraction must lie in [0, 1], got 2.0"]),
        (["--update-every", "-1"], ["update_every"]),
        (["--seed", "-1"], ["seed must lie in [0, 4294967296), got -1"]),
        (["--seed", "99999999999999999999999"], ["seed must lie in"]),
        (["--storage", "dense"], ["storage must be one of auto, masked, sparse, got 'dense'"]),
        (["--optimizer", "adam"], ["optimizer must be one of sgd, adamw, got 'adam'"]),
        (["--decay", "linear"], ["decay must be one of none, cosine"]),
        (["--threads", "-1"], ["--threads must lie in 0 to"]),
        (["--threads", "1000000"], ["--threads must lie in 0 to"]),
        (["--train-size", "1000000"], ["train_size is 1000000; give 1 to 1437"]),
        (["--test-size", "-1"], ["test_size"]),
        (["--model", "mlp"], ["unknown model 'mlp'; give mlp:1000x3"]),
        (["--model", "mlp:16x"], ["unknown model 'mlp:16x'"]),
        (["--model", "mlp:16x2-3"], ["unknown model 'mlp:16x2-3'"]),
        (["--model", "mlp:0x3"], ["mlp:0x3", "size of zero"]),
        (["--model", "mlp:16x0"], ["mlp:16x0"]),
        (["--model", "mlp:16x99999999999"], ["more than 10000 layers"]),
        (["--model", "mlp:99999999999999999999999x3"], ["GB or more to train, this machine has"]),
        (["--model", "mlp:9999999x3"], ["GB or more to train", "give fewer neurons"]),
        (["--data-dir", "somewhere"], ["leave it out for digits"]),
        (["--resume"], ["there is no run to resume in x"]),
        (["--resume", "--overwrite"], ["give one of them"]),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    own_folder: Path, words: Sequence[str], parts: Sequence[str]
) -> None:
    line = refused("train", "--out", "x", *TINY, *words)

    for part in parts:
        assert part in line
    assert listing(own_folder) == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--methods", "static,riggl"], "did you mean rigl or srigl?"),
        (["--methods", "static,static"], "names one method twice: static,static"),
        (["--methods", ""], "unknown method ''"),
        (["--methods", "static,"], "unknown method ''"),
        (["--seeds", "0"], "--seeds must be 1 or more, got 0"),
        (["--methods", "static,dense", "--dense-lr", "-1"], "learning_rate must lie in (0, 3.4e+38), got -1.0"),
        (["--methods", "static,gmp", "--epsilon", "5"], "--epsilon has no place in gmp"),
        (["--seed", "4294967295", "--seeds", "2"], "seed must lie in"),
    ],
)
def test_a_comparison_finds_out_before_it_trains_anything(own_folder: Path, words: Sequence[str], part: str) -> None:
    assert part in refused("compare", "--out", "x", *TINY, *words)
    assert listing(own_folder) == []


def npz(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_every_kind_of_bad_data_file_is_one_clear_line(own_folder: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    npz(Path("good.npz"), x=x, y=y)
    whole = Path("good.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    Path("empty.npz").write_bytes(b"")
    Path("empty.csv").write_bytes(b"")
    Path("nan.csv").write_text("1,nan,0\n1,2,1\n" * 5)
    Path("ragged.csv").write_text("1,2,0\n1,2\n")
    Path("folder.csv").mkdir()
    npz(Path("nan.npz"), x=np.where(x > 1, np.nan, x), y=y)
    npz(Path("rows.npz"), x=x[:30], y=y)
    npz(Path("flat.npz"), x=x[:, 0], y=y)
    npz(Path("one.npz"), x=x, y=y * 0)
    before = listing(own_folder)

    cases = {
        "nowhere.npz": "no such file: nowhere.npz",
        "nowhere.csv": "no such file: nowhere.csv",
        "folder.csv": "folder.csv",
        "cut.npz": "cut.npz: cannot be read",
        "empty.npz": "empty.npz",
        "empty.csv": "the file is empty",
        "nan.csv": "line 1, column 2",
        "ragged.csv": "line 2 has 2 columns",
        "nan.npz": "NaN or infinite",
        "rows.npz": "give one label a row",
        "flat.npz": "inputs have shape (40,)",
        "one.npz": "2 classes",
        "digit": "did you mean digits?",
        "table.xlsx": "unknown data set 'table.xlsx'",
    }
    for name, part in cases.items():
        assert part in refused("train", "--data", name, "--out", "x", "--threads", "1")
    assert listing(own_folder) == before


def test_idx_files_that_are_missing_or_cut_are_named(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("idx").mkdir()
    assert "idx lacks files of mnist" in refused("train", "--data", "mnist", "--data-dir", "idx", "--out", "x")

    names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
    for name in names:
        Path("idx", f"{name}-ubyte").write_bytes(b"\0\0\x08\x01\0\0")
    monkeypatch.setenv("GOSSAMER_DATA", "idx")
    assert "ubyte" in refused("train", "--data", "mnist", "--out", "x")
    assert not Path("x").exists()


def test_a_loss_that_becomes_nan_stops_the_run_and_keeps_the_last_good_checkpoint(own_folder: Path) -> None:
    line = refused("train", "--method", "rigl", "--lr", "1e30", "--out", "x", *TINY)

    assert "became" in line
    assert "at step" in line
    assert "the last good checkpoint is kept in x" in line
    end = events(Path("x"))[-1]
    assert (end["event"], end["status"]) == ("end", "failed")
    assert not Path("x/model.safetensors").exists()
    state = torch.load("x/checkpoint.pt", weights_only=True)
    assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())

    again = refused("train", "--method", "rigl", "--lr", "1e30", "--out", "x", "--resume", *TINY)
    assert again == line


def test_a_failed_method_of_a_comparison_is_named(own_folder: Path) -> None:
    line = refused("compare", "--methods", "static,dense", "--dense-lr", "1e30", "--out", "x", *TINY)

    assert line.startswith("dense, seed 0: ")
    assert Path("x/runs/static-seed0/model.safetensors").is_file()


def test_a_mistake_with_overwrite_deletes_nothing(own_folder: Path) -> None:
    good("train", "--out", "x", *TINY)
    before = model(Path("x"))["0.values"]

    refused("train", "--out", "x", *TINY, "--overwrite", "--model", "nowhere:build")

    assert torch.equal(model(Path("x"))["0.values"], before)


def test_a_mistake_is_told_on_stderr_with_json_too(own_folder: Path) -> None:
    refused("train", "--out", "x", "--json", "--method", "nothing")
    refused("compare", "--out", "x", "--json", "--seeds", "-1")
    refused("inspect", "x", "--json")
    assert gossamer("train", "--json", "--bogus").out == ""
