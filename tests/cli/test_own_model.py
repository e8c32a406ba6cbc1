from pathlib import Path

import pytest

from gossamer import files

from .shell import good, gossamer, model, refused

ARGUMENTS = ["--epochs", "1", "--train-size", "101", "--test-size", "50", "--batch-size", "20", "--sparsity", "0.8"]
ARGUMENTS += ["--threads", "1", "--out", "x"]

NETS = """
from torch import nn


def conv(num_features, num_classes):
    image, scan, norm = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
    return nn.Sequential(image, scan, norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))


def norm(num_features, num_classes):
    return nn.Sequential(nn.Linear(num_features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))


class Tied(nn.Module):
    def __init__(self, num_features, num_classes):
        super().__init__()
        self.first, self.last = nn.Linear(num_features, 16), nn.Linear(16, num_classes)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.two.weight = self.one.weight

    def forward(self, inputs):
        return self.last(self.two(self.one(self.first(inputs).relu()).relu()).relu())


class Pair(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs), None


def wide(num_features, num_classes): return nn.Linear(num_features, num_classes + 1)
def narrow(num_features, num_classes): return nn.Linear(num_features, num_classes - 1)
def flat(num_features, num_classes): return nn.Sequential(nn.Linear(num_features, num_classes), nn.Flatten(0))
def hungry(num_features, num_classes): return nn.Linear(num_features + 1, num_classes)
def divides(num_features, num_classes): return 1 / 0
def number(num_features, num_classes): return 7
def lonely(): return nn.Linear(64, 10)
def infinite(num_features, num_classes):
    linear = nn.Linear(num_features, num_classes)
    nn.init.constant_(linear.bias, float("inf"))
    return linear
"""


@pytest.fixture(autouse=True)
def nets(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # A name of its own for each test: Python imports a module once.
    name = f"nets_{abs(hash(own_folder))}"
    Path(f"{name}.py").write_text(NETS)
    return name


@pytest.mark.parametrize(
    "method",
    ["dense", "static", "set", "rigl", "gmp", "snip", "grasp", "synflow", "iht", "ac_dc", "dns", "dpf"],
)
def test_a_convolution_network_on_the_digits_trains_masked(nets: str, method: str) -> None:
    good("train", "--model", f"{nets}:conv", "--method", method, *ARGUMENTS)

    out = good("inspect", "x").out
    assert "4 x 1 x 3 x 3" in out
    assert ("truly sparse" in out) == (method != "dense")


def test_a_convolution_network_may_end_dense(nets: str) -> None:
    good("train", "--model", f"{nets}:conv", "--method", "dsd", *ARGUMENTS)

    out = good("inspect", "x").out
    assert "4 x 1 x 3 x 3" in out
    assert "truly sparse" not in out


@pytest.mark.parametrize("method", ["static", "set", "rigl", "gmp", "snip"])
def test_a_convolution_network_on_the_digits_trains_truly_sparse(nets: str, method: str) -> None:
    good("train", "--model", f"{nets}:conv", "--method", method, "--storage", "sparse", *ARGUMENTS)

    layers = good("inspect", "x", "--json").json["layers"]
    assert {tuple(layer["shape"]): layer["stored"] for layer in layers}[(4, 1, 3, 3)] == "truly sparse"


@pytest.mark.parametrize("storage", ["masked", "sparse"])
def test_a_model_with_batch_norm_trains_and_is_saved_whole(nets: str, storage: str) -> None:
    arguments = [word if word != "101" else "100" for word in ARGUMENTS]
    good("train", "--model", f"{nets}:norm", "--method", "rigl", "--storage", storage, *arguments)

    tensors = model(Path("x"))
    assert {"0.values", "1.running_mean", "1.num_batches_tracked", "3.values"} <= tensors.keys()
    assert int(tensors["1.num_batches_tracked"]) == 5


def test_batch_norm_and_a_last_batch_of_one_row_is_refused_before_training(nets: str) -> None:
    line = refused("train", "--model", f"{nets}:norm", *ARGUMENTS)

    assert "Expected more than 1 value per channel" in line
    assert "another --batch-size may help" in line
    assert not Path("x").exists()


def test_tied_weights_can_be_masked_and_stay_tied(nets: str) -> None:
    good("train", "--model", f"{nets}:Tied", "--method", "set", "--storage", "masked", *ARGUMENTS)

    saved = files.read("x/model.safetensors")
    assert set(saved.sparse_layers) == {"first", "last"}
    assert saved.tensors["one.weight"].equal(saved.tensors["two.weight"])
    assert bool((saved.tensors["one.weight"] == 0).any())


def test_a_weight_that_two_layers_share_is_counted_once(nets: str) -> None:
    results = good("train", "--model", f"{nets}:Tied", "--method", "set", "--storage", "masked", "--json", *ARGUMENTS)

    fields = results.json["results"]["SET"][0]
    assert fields["num_weights"] == 64 * 16 + 16 * 16 + 16 * 10
    assert fields["num_active"] == round(0.2 * fields["num_weights"])


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        ("wide", ["outputs of shape (2, 11); it must be (2, 10)"]),
        ("narrow", ["outputs of shape (2, 9); it must be (2, 10)"]),
        ("flat", ["outputs of shape (20,)"]),
        ("Pair", ["outputs of shape tuple"]),
        ("hungry", ["fails on inputs of shape (2, 64)", "RuntimeError", "GOSSAMER_TRACEBACK=1"]),
        ("divides", ["(64, 10) failed: ZeroDivisionError", "GOSSAMER_TRACEBACK=1"]),
        ("number", ["returned int; it must return a torch.nn.Module"]),
        ("lonely", ["lonely() takes 0 positional arguments but 2 were given"]),
        ("infinite", ["the loss before the first step is"]),
        ("missing", ["has no function 'missing'; check the name after the colon"]),
        ("NETS", ["has no function 'NETS'"]),
    ],
)
def test_a_bad_model_function_is_one_clear_line(nets: str, function: str, parts: list[str]) -> None:
    line = refused("train", "--model", f"{nets}:{function}", *ARGUMENTS)

    for part in parts:
        assert part in line
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere:build", "cannot import 'nowhere'"),
        ("nowhere.py:build", "leave out the .py"),
        ("broken:build", "cannot import 'broken', SyntaxError"),
        ("build", "unknown model 'build'"),
        (":build", "unknown model ':build'"),
        ("nowhere:", "unknown model 'nowhere:'"),
    ],
)
def test_a_model_that_cannot_be_found_is_one_clear_line(name: str, part: str) -> None:
    Path("broken.py").write_text("def build(:\n")

    assert part in refused("train", "--model", name, *ARGUMENTS)
    assert not Path("x").exists()


@pytest.mark.parametrize("words", [["--dropout", "0.5"], ["--method", "truly_sparse"]])
def test_an_option_that_an_own_model_cannot_heed_is_refused(nets: str, words: list[str]) -> None:
    line = refused("train", "--model", f"{nets}:norm", *ARGUMENTS, *words)

    assert f"has no effect on {nets}:norm" in line


def test_what_a_model_prints_does_not_spoil_the_json() -> None:
    Path("talker.py").write_text(
        "from torch import nn\ndef build(inputs, outputs):\n    print('made')\n    return nn.Linear(inputs, outputs)\n"
    )

    code, out, err = gossamer("train", "--model", "talker:build", "--json", *ARGUMENTS)

    assert (code, out[0], out[-2:]) == (0, "{", "}\n")
    assert err == "made\nmade\n"  # once to try it, once to train it
