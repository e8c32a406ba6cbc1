"""Memory between layers: used again when nothing holds it, never before."""

import os
import threading

import pytest
import torch
from torch import Tensor, nn

from gossamer.kernels import buffers
from gossamer.nn import Sequential, SparseLinear


@pytest.fixture(autouse=True)
def _empty_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_kept", buffers._Kept())
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1 << 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(37, 100), (1, 4000), (4000, 1), (300, 1100), (0, 5), (5, 0), (3, 2)])
def test_a_matrix_has_the_shape_strides_and_alignment_of_a_result(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    found = buffers.results(*shape, dtype)
    expected = torch.empty(shape, dtype=dtype).t()
    assert found.shape == expected.shape
    assert found.stride() == (1, shape[1])
    assert found.dtype == dtype
    assert found.data_ptr() % 64 == 0
    assert not found._is_view()
    found.fill_(3.0)
    assert bool((found == 3.0).all())


def test_what_is_free_is_used_again_and_what_is_held_is_not() -> None:
    first, second = buffers.results(40, 100, torch.float32), buffers.results(40, 100, torch.float32)
    places = [first.data_ptr(), second.data_ptr()]
    assert places[0] != places[1]
    del first
    assert buffers.results(40, 100, torch.float32).data_ptr() == places[0]
    view = second[:2]
    del second
    third, fourth = buffers.results(38, 100, torch.float32), buffers.results(40, 100, torch.float32)
    assert view.data_ptr() not in (third.data_ptr(), fourth.data_ptr())
    assert len(buffers._kept.buffers) == 3


def test_no_more_is_kept_than_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_TOTAL_BYTES", 100_000)
    held = [buffers.results(100, 100, torch.float32) for _ in range(4)]
    assert sum(buffer.size for buffer in buffers._kept.buffers) <= 100_000
    assert len({part.data_ptr() for part in held}) == 4
    held.clear()
    # Others than were kept: these go.
    assert buffers.results(180, 100, torch.float32).shape == (100, 180)
    assert [buffer.size for buffer in buffers._kept.buffers] == [72_064]


def test_where_there_are_no_large_pages_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(num_bytes: int) -> None:
        raise OSError(22, "no large pages")

    monkeypatch.setattr(buffers, "_on_large_pages", refuse)
    found = buffers.results(1024, 600, torch.float32)
    found.fill_(1.0)
    assert float(found.sum()) == 1024 * 600
    assert len(buffers._kept.buffers) == 1


def test_each_thread_has_its_own() -> None:
    here = buffers.results(40, 100, torch.float32).fill_(2.0)
    found: list[Tensor] = []

    def take() -> None:
        found.extend(buffers.results(40, 100, torch.float32).fill_(1.0) for _ in range(3))

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    again = buffers.results(40, 100, torch.float32).fill_(3.0)
    assert len({part.data_ptr() for part in (here, again, *found)}) == 5
    assert bool((here == 2.0).all())
    assert all(bool((part == 1.0).all()) for part in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_that_is_forked_off_writes_to_memory_of_its_own() -> None:
    held = buffers.results(1024, 600, torch.float32).fill_(5.0)
    buffers.results(1024, 600, torch.float32).fill_(6.0)
    child = os.fork()
    if not child:
        held.numpy()[:] = 7.0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bool((held == 5.0).all())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Identity])
def test_graphs_that_live_at_once_keep_their_numbers(activation: type[nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [
        SparseLinear(40, 50, sparsity=0.8, generator=generator),
        SparseLinear(50, 40, sparsity=0.8, generator=generator),
    ]
    model = Sequential(layers[0], nn.ReLU(), layers[1], activation(), nn.Linear(40, 3))
    batches = [torch.randn(64, 40, generator=generator) for _ in range(5)]

    def grads(outputs: list[Tensor]) -> list[Tensor]:
        parameters = list(model.parameters())
        return [part for out in outputs for part in torch.autograd.grad(out.square().sum(), parameters)]

    together = grads([model(batch) for batch in batches])
    alone = [part for batch in batches for part in grads([model(batch)])]
    assert buffers._kept.buffers
    for found, expected in zip(together, alone, strict=True):
        assert torch.equal(found, expected)
