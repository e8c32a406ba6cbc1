"""Models of convolutions, embeddings and recurrent layers in files; those of linear layers are in test_files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from gossamer import files, sparsify, to_sparse
from gossamer.nn import SparseEmbedding


class Network(nn.Module):
    """A layer of each kind."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 6, padding_idx=0)
        self.image = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.line = nn.Conv1d(channels * 6, 8, 2, groups=2)
        self.rnn = nn.LSTM(8, 5, bidirectional=True, batch_first=True)
        self.cell = nn.GRUCell(10, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, words: Tensor) -> Tensor:
        image = self.image(self.table(words)[:, None])
        line = self.line(image.transpose(2, 3).flatten(1, 2))
        result: Tensor = self.head(self.cell(self.rnn(line.transpose(1, 2))[0][:, -1]))
        return result


WORDS = torch.tensor([[1, 5, 0, 19, 7], [3, 3, 2, 0, 11]])


def network(sparsity: float, seed: int = 0) -> nn.Module:
    """Return a network whose layers are all truly sparse."""
    torch.manual_seed(seed)
    model = Network()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "image.1" not in name:
            parameter.data.mul_(torch.rand(parameter.shape, generator=generator) >= sparsity)
    return to_sparse(model)


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("architecture", ["dense", "another topology", "partly sparse"])
def test_a_model_of_all_kinds_of_layers_comes_back_into_any_storage(tmp_path: Path, architecture: str) -> None:
    model = network(0.5)
    files.save(model, tmp_path / "file")
    torch.manual_seed(1)
    architectures: dict[str, Callable[[], nn.Module]] = {
        "dense": Network,
        "another topology": lambda: network(0.8, seed=2),
        "partly sparse": lambda: sparsify(
            Network(), sparsity=0.3, generator=torch.Generator(), exclude=["rnn", "image*"]
        ),
    }
    into = architectures[architecture]()
    before = {name: tensor.clone() for name, tensor in into.state_dict().items()}

    loaded = files.load(tmp_path / "file", into)

    assert_same_state(loaded, model)
    assert [type(module) for module in loaded.modules()] == [type(module) for module in model.modules()]
    assert torch.equal(loaded.eval()(WORDS), model.eval()(WORDS))
    assert before.keys() == into.state_dict().keys()
    assert all(torch.equal(tensor, into.state_dict()[name]) for name, tensor in before.items())


def test_the_file_names_the_shape_of_each_weight(tmp_path: Path) -> None:
    files.save(network(0.5), tmp_path / "file")

    shapes = files.read(tmp_path / "file").sparse_layers

    assert shapes["table"] == (20, 6)
    assert shapes["image.0"] == (4, 1, 3, 3)
    assert shapes["line"] == (8, 12, 2)
    assert shapes["rnn.hidden_0_reverse"] == (20, 5)
    assert shapes["cell.input"] == (9, 10)


@pytest.mark.parametrize("name", ["table", "image.0", "line", "rnn", "cell"])
def test_a_model_that_is_one_layer_comes_back(tmp_path: Path, name: str) -> None:
    layer = network(0.5).get_submodule(name)
    files.save(layer, tmp_path / "file")

    assert_same_state(files.load(tmp_path / "file", Network().get_submodule(name)), layer)


def test_a_loaded_model_trains_and_what_is_frozen_stays_so(tmp_path: Path) -> None:
    files.save(network(0.5), tmp_path / "file")
    architecture = Network()
    architecture.image[0].weight.requires_grad_(False)
    loaded = files.load(tmp_path / "file", architecture)
    loaded(WORDS).pow(2).sum().backward()

    assert not loaded.get_parameter("image.0.values").requires_grad
    for name in ("table", "line", "rnn.input_0", "cell.input", "head"):
        gradient = loaded.get_parameter(f"{name}.values").grad
        assert gradient is not None, name
        assert gradient.any(), name


def test_other_precisions_come_back_as_they_are(tmp_path: Path) -> None:
    model = network(0.5).double()
    files.save(model, tmp_path / "file")

    assert_same_state(files.load(tmp_path / "file", Network().double()), model)


@pytest.mark.parametrize(
    ("architecture", "part"),
    [
        (
            lambda: Network(channels=5),
            r"its layer 'image\.0' is truly sparse, 4 x 1 x 3 x 3, there the model has 5 x 1",
        ),
        (lambda: nn.Sequential(nn.Linear(3, 3)), "there the model has none"),
    ],
)
def test_another_architecture_is_refused_in_one_line(tmp_path: Path, architecture: object, part: str) -> None:
    files.save(network(0.5), tmp_path / "file")

    with pytest.raises(ValueError, match=f"file is of another model: .*{part}") as caught:
        files.load(tmp_path / "file", architecture())  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_layer_of_the_same_shape_and_another_kind_is_refused(tmp_path: Path) -> None:
    files.save(SparseEmbedding(6, 4, sparsity=0.5, generator=torch.Generator()), tmp_path / "table")

    with pytest.raises(ValueError, match="table is of another model"):
        files.load(tmp_path / "table", nn.Linear(4, 6))
    files.save(to_sparse(zeros(nn.Conv2d(2, 3, 3, padding=1))), tmp_path / "conv")
    with pytest.raises(ValueError, match=r"conv is of another model: .*there the model has a Conv2d"):
        files.load(tmp_path / "conv", nn.Conv2d(2, 3, 3, padding_mode="reflect"))


def zeros(layer: nn.Module) -> nn.Module:
    layer.get_parameter("weight").data.view(-1)[::2] = 0
    return layer


@pytest.mark.parametrize("sizes", ["[3]", "[3, -2, -9]", "[3, 2, 4, 3]", "8", '["a", 3]'])
def test_a_damaged_shape_of_a_convolution_is_refused(tmp_path: Path, sizes: str) -> None:
    state = {f"0.{key}": value for key, value in to_sparse(zeros(nn.Conv2d(2, 3, 3))).state_dict().items()}
    metadata = {"format": "gossamer 1", "sparse_layers": json.dumps({"0": json.loads(sizes)})}
    safetensors.torch.save_file(state, tmp_path / "file", metadata=metadata)

    with pytest.raises(ValueError, match=r"of another model|layer '0' is damaged"):
        files.load(tmp_path / "file", nn.Sequential(nn.Conv2d(2, 3, 3)))
