import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.checkpoint import checkpoint

from gossamer.nn import SparseLinear
from gossamer.weights import SparseWeight, is_held, prunable

from .storage import STORAGES, View, dense_gradient, random_dense, view_of

both = pytest.mark.parametrize("storage", STORAGES)


@both
@pytest.mark.parametrize("tile_bytes", [1, 11 * 8, 1 << 21])
@pytest.mark.parametrize("tile_columns", [2, 1 << 11])
def test_the_dense_gradient_is_that_of_the_dense_layer_however_it_is_cut(
    storage: str, tile_bytes: int, tile_columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.weights.tiles.TILE_BYTES", tile_bytes)
    monkeypatch.setattr("gossamer.weights.recorded.TILE_COLUMNS", tile_columns)
    module, weight = view_of(random_dense(4, 5, 0.4), storage, bias=True)
    dense = nn.Linear(5, 4, dtype=torch.float64)
    dense.weight.data.copy_(random_dense(4, 5, 0.4))
    dense.bias.data.copy_(dict(module.named_parameters())["bias"])
    weight.watch()
    inputs = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for layer in (module, dense):
        # [*, in], used twice, changed in place afterwards
        (nn.functional.relu(layer(inputs), inplace=True).sum() + layer(inputs[0] * 2).pow(2).sum()).backward()

    sizes = [tile.nbytes for _, tile in weight.gradient_tiles()]
    assert max(sizes) <= max(8, tile_bytes)
    torch.testing.assert_close(dense_gradient(weight), dense.weight.grad)


@both
@pytest.mark.parametrize("indices", [[], [0], [3, 4, 11, 19], [*range(20)]], ids=len)
def test_the_gradient_at_some_entries_is_that_of_the_tiles(storage: str, indices: list[int]) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage, bias=True)
    weight.watch()
    inputs = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (module(inputs).pow(2).sum() + module(inputs[0]).sum()).backward()
    places = torch.tensor(indices, dtype=torch.int64)

    found = weight.gradient_at(places)
    assert found.shape == places.shape
    torch.testing.assert_close(found, dense_gradient(weight).flatten()[places])


def test_a_sample_is_part_of_the_gradient_and_the_same_in_both_storages_and_each_time() -> None:
    samples, gradients = [], []
    for storage in STORAGES:
        module, weight = view_of(random_dense(40, 50, 0.1), storage)
        weight.watch()
        module(torch.randn(6, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).sum().backward()
        tiles = weight.gradient_tiles()
        samples += [tiles.sample(), tiles.sample()]
        gradients.append(dense_gradient(weight))
    found = [sample for sample in samples if sample is not None]

    assert [tuple(sample.shape) for sample in found] == [(5, 6)] * 4
    for sample in found[1:]:
        torch.testing.assert_close(sample, found[0])
    assert all(bool((gradients[0] - entry).abs().min() < 1e-12) for entry in found[0].flatten())


@both
def test_no_gradient_is_known_anywhere_before_a_backward_pass(storage: str) -> None:
    _, weight = view_of(random_dense(4, 5, 0.4), storage)
    weight.watch()

    with pytest.raises(RuntimeError, match="no gradient of"):
        weight.gradient_at(torch.tensor([0]))


@both
def test_the_tiles_of_a_very_wide_layer_are_no_larger_than_others(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.weights.tiles.TILE_BYTES", 1 << 10)
    _, weight = watched_row(storage, 3000)

    assert max(tile.nbytes for _, tile in weight.gradient_tiles()) <= 1 << 10
    assert torch.equal(dense_gradient(weight), torch.arange(3000.0, dtype=torch.float64).expand(2, 3000))


def watched_row(storage: str, width: int) -> tuple[nn.Module, View]:
    """Return a layer of two outputs whose gradient is 0, 1, 2 ... in each row."""
    module, weight = view_of(random_dense(2, width, 0.01), storage)
    weight.watch()
    module(torch.arange(float(width), dtype=torch.float64)[None]).sum().backward()
    return module, weight


@both
@pytest.mark.parametrize("shape", [(4, 5), (2, 2, 5), (1, 5), (7, 5), (5,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dense_gradient_is_right_for_square_outputs_changed_in_place(
    storage: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage, bias=True)
    module.to(dtype)
    inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    factor = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(dtype)
    weight.watch()

    output = module(inputs)
    # float16 and bfloat16 take the operators, whose result is a view of a feature-major matrix
    (nn.functional.relu(output, inplace=True) * factor).sum().backward()

    grad = (output.detach() > 0).to(dtype) * factor
    expected = grad.reshape(-1, 4).t() @ inputs.reshape(-1, 5)
    bound = {torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(dense_gradient(weight).to(dtype).view(4, 5), expected, rtol=bound, atol=bound)


@both
def test_micro_batches_add_up_even_where_they_share_a_buffer(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    batch = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight.watch()
    module(batch).pow(2).sum().backward()
    whole = dense_gradient(weight)
    weight.parameter.grad = None
    buffer = torch.empty(2, 5, dtype=torch.float64)
    for rows in batch.split(2):
        buffer.copy_(rows)
        module(buffer).pow(2).sum().backward()

    torch.testing.assert_close(dense_gradient(weight), whole)
    assert weight.parameter.grad is not None


@both
def test_a_gradient_that_is_thrown_away_is_forgotten(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    weight.watch()
    module(torch.full((2, 5), float("inf"), dtype=torch.float64)).sum().backward()
    SGD(module.parameters(), lr=0.1).zero_grad()
    module(torch.ones(2, 5, dtype=torch.float64)).sum().backward()

    torch.testing.assert_close(dense_gradient(weight), torch.full((4, 5), 2.0, dtype=torch.float64))


@both
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_layer_is_recorded_once(storage: str, use_reentrant: bool) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    weight.watch()
    inputs = torch.ones(2, 5, dtype=torch.float64, requires_grad=True)
    result = checkpoint(module, inputs, use_reentrant=use_reentrant)
    assert isinstance(result, Tensor)
    result.sum().backward()

    torch.testing.assert_close(dense_gradient(weight), torch.full((4, 5), 2.0, dtype=torch.float64))


@both
def test_an_empty_batch_has_a_gradient_of_zero(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    weight.watch()
    module(torch.empty(0, 5, dtype=torch.float64)).sum().backward()

    assert torch.equal(dense_gradient(weight), torch.zeros(4, 5, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_a_layer_without_inputs_or_outputs_can_be_watched(shape: tuple[int, int]) -> None:
    module = SparseLinear(shape[1], shape[0], sparsity=0.0, generator=torch.Generator())
    weight = SparseWeight("w", module)
    weight.attach()
    weight.watch()
    module(torch.ones(2, shape[1])).sum().backward()

    assert sum(tile.numel() for _, tile in weight.gradient_tiles()) == 0


@both
def test_nothing_is_recorded_before_watch_nor_after_unwatch(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    inputs = torch.ones(2, 5, dtype=torch.float64)
    module(inputs).sum().backward()
    with pytest.raises(RuntimeError, match="no gradient of"):
        list(weight.gradient_tiles())
    weight.watch()
    module(inputs).sum().backward()
    list(weight.gradient_tiles())
    weight.unwatch()

    with pytest.raises(RuntimeError, match="no gradient of"):
        list(weight.gradient_tiles())


@both
def test_a_forward_pass_without_gradient_is_not_recorded(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    weight.watch()
    with torch.no_grad():
        module(torch.ones(2, 5, dtype=torch.float64))

    with pytest.raises(RuntimeError, match="no gradient of"):
        list(weight.gradient_tiles())


@both
def test_a_pass_to_the_inputs_alone_does_not_count(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    weight.watch()
    inputs = torch.ones(2, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.grad(100 * module(inputs).sum(), inputs)
    module(inputs).sum().backward()

    torch.testing.assert_close(dense_gradient(weight), torch.full((4, 5), 2.0, dtype=torch.float64))


def test_the_copy_of_a_watched_layer_does_not_hoard_inputs() -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), "truly sparse")
    size = len(pickle.dumps(module))
    weight.watch()
    module(torch.ones(1000, 5, dtype=torch.float64)).sum().backward()
    weight.parameter.grad = None
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert abs(len(pickle.dumps(twin)) - size) < 500
        twin(torch.ones(1000, 5, dtype=torch.float64)).sum().backward()
        twin.zero_grad()

        assert abs(len(pickle.dumps(twin)) - size) < 500
        assert not is_held(prunable(twin)[0])
    assert dense_gradient(weight).eq(1000).all()
