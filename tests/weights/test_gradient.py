import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.checkpoint import checkpoint

from gossamer.nn import SparseLinear
from gossamer.weights import SparseWeight, is_held, prunable

from .storage import STORAGES, dense_gradient, random_dense, view_of

both = pytest.mark.parametrize("storage", STORAGES)


@both
@pytest.mark.parametrize("tile_numbers", [1, 11, 1 << 20])
def test_the_dense_gradient_is_that_of_the_dense_layer_however_it_is_cut(
    storage: str, tile_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.weights.tiles.TILE_NUMBERS", tile_numbers)
    module, weight = view_of(random_dense(4, 5, 0.4), storage, bias=True)
    dense = nn.Linear(5, 4, dtype=torch.float64)
    dense.weight.data.copy_(random_dense(4, 5, 0.4))
    dense.bias.data.copy_(dict(module.named_parameters())["bias"])
    weight.watch()
    inputs = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for layer in (module, dense):
        # [*, in], used twice, changed in place afterwards
        (nn.functional.relu(layer(inputs), inplace=True).sum() + layer(inputs[0] * 2).pow(2).sum()).backward()

    tiles = list(weight.gradient_tiles())
    assert [start for start, _ in tiles] == [5 * row for row in range(0, 4, max(1, tile_numbers // 5))]
    torch.testing.assert_close(torch.cat([tile for _, tile in tiles]), dense.weight.grad)


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
