import errno
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gossamer import files
from gossamer.nn import SparseLinear, sparsify

GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(0)
    GENERATOR.manual_seed(0)


def sparse(in_features: int, out_features: int, **options: Any) -> SparseLinear:
    return SparseLinear(in_features, out_features, sparsity=0.5, generator=GENERATOR, **options)


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, bias=False))


def truly_sparse() -> nn.Sequential:
    return nn.Sequential(sparse(8, 6), nn.BatchNorm1d(6), nn.ReLU(), sparse(6, 3, bias=False))


def mixed() -> nn.Sequential:
    return nn.Sequential(sparse(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, bias=False))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.two(self.one(inputs).relu())
        return result


class Shared(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.one = self.two = layer

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.two(self.one(inputs).relu())
        return result


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize(
    ("make", "architecture"),
    [(truly_sparse, dense), (truly_sparse, truly_sparse), (truly_sparse, mixed), (mixed, dense), (mixed, mixed)],
)
def test_a_sparse_model_comes_back_into_any_storage_of_its_architecture(
    tmp_path: Path, make: Any, architecture: Any
) -> None:
    model = make()
    model(torch.randn(5, 8))
    files.save(model, tmp_path / "file")

    loaded = files.load(tmp_path / "file", architecture())

    assert_same_state(loaded, model)
    inputs = torch.randn(5, 8)
    assert torch.equal(loaded.eval()(inputs), model.eval()(inputs))


def test_a_dense_model_comes_back(tmp_path: Path) -> None:
    model = dense()
    files.save(model, tmp_path / "file")

    assert_same_state(files.load(tmp_path / "file", dense()), model)


def test_the_architecture_that_was_given_stays_as_it_was(tmp_path: Path) -> None:
    files.save(truly_sparse(), tmp_path / "file")
    for architecture in (dense(), truly_sparse()):
        before = {name: tensor.clone() for name, tensor in architecture.state_dict().items()}

        files.load(tmp_path / "file", architecture)

        after = architecture.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_that_is_one_sparse_layer_comes_back(tmp_path: Path) -> None:
    layer = sparse(8, 6)
    files.save(layer, tmp_path / "file")

    assert files.read(tmp_path / "file").sparse_layers == {"": (6, 8)}
    for architecture in (nn.Linear(8, 6), sparse(8, 6)):
        assert_same_state(files.load(tmp_path / "file", architecture), layer)


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    model = Tied()
    files.save(model, tmp_path / "file")

    loaded = files.load(tmp_path / "file", Tied())

    assert isinstance(loaded, Tied)
    assert_same_state(loaded, model)
    assert loaded.one.weight is loaded.two.weight


@pytest.mark.parametrize("architecture", [lambda: nn.Linear(4, 4), lambda: sparse(4, 4)])
def test_a_shared_module_comes_back_shared(tmp_path: Path, architecture: Any) -> None:
    model = Shared(sparse(4, 4))
    files.save(model, tmp_path / "file")

    loaded = files.load(tmp_path / "file", Shared(architecture()))

    assert_same_state(loaded, model)
    assert loaded.one is loaded.two


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_come_back_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    model = truly_sparse().to(dtype)
    files.save(model, tmp_path / "file")

    loaded = files.load(tmp_path / "file", dense().to(dtype))

    assert_same_state(loaded, model)
    size, half = (path.stat().st_size for path in (tmp_path / "file", saved_at(tmp_path, truly_sparse())))
    assert (size < half) == (dtype != torch.float64)


def saved_at(folder: Path, model: nn.Module) -> Path:
    files.save(model, folder / "other")
    return folder / "other"


def test_a_half_precision_file_takes_the_precision_of_the_architecture(tmp_path: Path) -> None:
    files.save(mixed().half(), tmp_path / "file")

    loaded = files.load(tmp_path / "file", dense())

    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert loaded.eval()(torch.randn(2, 8)).isfinite().all()


def test_what_is_frozen_or_evaluating_in_the_architecture_stays_so(tmp_path: Path) -> None:
    files.save(truly_sparse(), tmp_path / "file")
    architecture = dense().eval()
    architecture[0].weight.requires_grad_(False)

    loaded = files.load(tmp_path / "file", architecture)

    assert not loaded[0].values.requires_grad  # type: ignore[index]
    assert loaded[0].bias.requires_grad  # type: ignore[index]
    assert not loaded[0].training  # type: ignore[index]


def test_a_loaded_model_trains(tmp_path: Path) -> None:
    files.save(truly_sparse(), tmp_path / "file")
    loaded = files.load(tmp_path / "file", dense())
    before = loaded[0].values.detach().clone()  # type: ignore[index]

    loaded(torch.randn(5, 8)).square().sum().backward()
    torch.optim.SGD(loaded.parameters(), lr=0.1).step()

    assert not torch.equal(loaded[0].values, before)  # type: ignore[index]


def test_texts_are_kept_and_the_formats_own_are_not_shown(tmp_path: Path) -> None:
    files.save(dense(), tmp_path / "file", metadata={"method": "ünï", "note": ""})

    assert files.read(tmp_path / "file").metadata == {"method": "ünï", "note": ""}


@pytest.mark.parametrize("key", ["format", "sparse_layers"])
def test_a_text_may_not_take_the_formats_own_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=f"metadata may not use {key}"):
        files.save(dense(), tmp_path / "file", metadata={key: "mine"})
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

    with pytest.raises(ValueError, match=r"0\._extra_state in the state is no tensor"):
        files.save(nn.Sequential(Extra()), tmp_path / "file")


def test_the_file_is_no_larger_than_what_is_active(tmp_path: Path) -> None:
    layer = SparseLinear(10_000, 10_000, sparsity=0.9999, generator=GENERATOR)
    files.save(layer, tmp_path / "file")

    assert (tmp_path / "file").stat().st_size < 4 * (2 * 10_000 + 3 * 10_001) + 1000


def test_any_safetensors_file_can_be_read(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.eye(3)}, tmp_path / "file", metadata={"format": "pt", "a": "b"})

    saved = files.read(tmp_path / "file")

    assert (list(saved.tensors), saved.sparse_layers, saved.metadata) == (["w"], {}, {"a": "b"})


@pytest.mark.parametrize(
    "architecture",
    [
        nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False)),
        nn.Sequential(nn.Sequential(nn.Linear(8, 6)), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, bias=False)),
        nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)),
        nn.Sequential(nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, bias=False)),
        nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
        nn.Sequential(SparseLinear(8, 5, sparsity=0.5, generator=GENERATOR), nn.ReLU(), nn.ReLU(), nn.Linear(6, 3)),
        nn.Linear(8, 6),
    ],
)
def test_another_architecture_is_refused_in_one_line(tmp_path: Path, architecture: nn.Module) -> None:
    files.save(truly_sparse(), tmp_path / "file")

    with pytest.raises(ValueError, match="file is of another model: ") as caught:
        files.load(tmp_path / "file", architecture)

    assert "\n" not in str(caught.value)


def write(path: Path, changes: dict[str, Tensor | None], **metadata: str) -> Path:
    """Write a file of a 6 x 8 sparse layer, some of its parts replaced or left out."""
    tensors: dict[str, Tensor | None] = {**{f"0.{k}": v for k, v in sparse(8, 6).state_dict().items()}, **changes}
    own = {"format": "gossamer 1", "sparse_layers": json.dumps({"0": [6, 8]}), **metadata}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    safetensors.torch.save_file(whole, path, metadata=own)
    return path


POINTERS = torch.tensor([0, 4, 8, 12, 16, 20, 24], dtype=torch.int32)
COLUMNS = torch.arange(4, dtype=torch.int32).repeat(6)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"0.row_pointers": POINTERS.flip(0)}, "row_pointers must ascend from 0 to 24"),
        ({"0.row_pointers": POINTERS[:-1]}, "row_pointers has shape"),
        ({"0.row_pointers": POINTERS.float()}, "both must be vectors of int32 or both of int64"),
        ({"0.row_pointers": POINTERS, "0.column_indices": COLUMNS + 5}, "column_indices run from 5 to 8 of 8 columns"),
        ({"0.row_pointers": POINTERS, "0.column_indices": COLUMNS - 1}, "column_indices run from -1 to 2"),
        ({"0.row_pointers": POINTERS, "0.column_indices": COLUMNS.flip(0)}, "must ascend within each row"),
        ({"0.row_pointers": POINTERS, "0.column_indices": COLUMNS[None]}, "both must be vectors"),
        ({"0.values": torch.zeros(23)}, r"values of shape \(23,\) for 24 places"),
        ({"0.values": torch.zeros(1, 24)}, r"values of shape \(1, 24\) for 24 places"),
        ({"0.values": None}, "'0.values' is missing"),
        ({"0.row_pointers": None}, "'0.row_pointers' is missing"),
    ],
)
def test_a_damaged_topology_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Tensor | None], part: str
) -> None:
    path = write(tmp_path / "file", changes)

    for attempt in (files.read, lambda path: files.load(path, nn.Sequential(nn.Linear(8, 6)))):
        with pytest.raises(ValueError, match=f"file: layer '0' is damaged: .*{part}") as caught:
            attempt(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{", "[1]", "3", '{"0": [6]}', '{"0": ["a", 8]}', '{"0": [-6, 8]}', '{"0": [8, 6]}', '{"5": [6, 8]}']
)
def test_a_damaged_list_of_layers_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"file: layer .* is damaged: .*; save the model again"):
        files.read(write(tmp_path / "file", {}, sparse_layers=text))


def test_a_file_of_a_later_format_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has the format 'gossamer 2', this version reads 'gossamer 1'"):
        files.read(write(tmp_path / "file", {}, format="gossamer 2"))


def test_a_bias_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "file", {"0.bias": torch.zeros(5)})

    with pytest.raises(ValueError, match="file is of another model: "):
        files.load(path, nn.Sequential(nn.Linear(8, 6)))


@pytest.mark.parametrize("share", [0.0, 0.005, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    files.save(truly_sparse(), tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(ValueError, match="file is no whole safetensors file"):
        files.read(tmp_path / "file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no file {path}"):
            files.read(path)
    with pytest.raises(FileNotFoundError):
        files.save(dense(), tmp_path / "missing" / "file")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.save(dense(), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()

    def fail(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        files.save(truly_sparse(), tmp_path / "file")

    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_model_made_sparse_is_saved_and_comes_back(tmp_path: Path) -> None:
    model = sparsify(dense(), sparsity=0.7, generator=GENERATOR)
    files.save(model, str(tmp_path / "file"))

    assert_same_state(files.load(str(tmp_path / "file"), dense()), model)
