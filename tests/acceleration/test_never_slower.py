import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossamer.acceleration import accelerate
from gossamer.nn import SparseConv2d

from .architectures import NAMES, pruned

# What two runs of the very same thing may differ by on a machine with other work.
_NOISE = 0.15


def medians(*runs: Callable[[], object]) -> list[float]:
    """Seconds of processor time of each, taken in turns."""
    samples: list[list[float]] = [[] for _ in runs]
    for number in range(25):
        for place in range(len(runs)) if number % 2 else reversed(range(len(runs))):
            runs[place]()
            start = time.process_time()
            runs[place]()
            samples[place].append(time.process_time() - start)
    return [statistics.median(each) for each in samples]


@pytest.mark.parametrize("sparsity", [0.5, 0.95])
@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_never_slower_and_computes_the_same(name: str, sparsity: float) -> None:
    model, example = pruned(name, sparsity)
    fast, table = accelerate(model, example, cache=False, seconds=0.3)

    with torch.no_grad():
        assert torch.allclose(fast(example), model(example), rtol=1e-3, atol=1e-4)
        tries = (medians(lambda: model(example), lambda: fast(example)) for _ in range(3))
        assert any(result <= (1 + _NOISE) * given for given, result in tries), str(table)


def test_a_sparse_network_becomes_faster() -> None:
    model, example = pruned("mlp", 0.95)
    fast, table = accelerate(model, example, cache=False, seconds=0.5)

    assert table.is_faster
    assert table.bytes < 0.5 * table.given_bytes
    with torch.no_grad():
        tries = (medians(lambda: model(example), lambda: fast(example)) for _ in range(3))
        assert any(result < 0.8 * given for given, result in tries), str(table)


def test_a_sparse_network_of_convolutions_becomes_faster() -> None:
    model, example = pruned("convolutions", 0.95)
    fast, table = accelerate(model, example, cache=False, seconds=1.0)

    assert table.is_faster
    assert isinstance(fast[3], SparseConv2d)  # type: ignore[index]
    assert table.bytes < 0.5 * table.given_bytes
    with torch.no_grad():
        tries = (medians(lambda: model(example), lambda: fast(example)) for _ in range(3))
        assert any(result < 0.85 * given for given, result in tries), str(table)


def test_a_candidate_that_is_slow_is_never_chosen() -> None:
    model, example = pruned("mlp", 0.95)
    fast, table = accelerate(model, example, formats={"sleepy": Sleepy}, cache=False, seconds=0.1)

    assert {row.chosen for row in table.layers} == {"dense"}
    assert table.layers[0].times_ms["sleepy"] > table.layers[0].times_ms["dense"]
    assert table.layers[0].reason.startswith("dense is faster: ")
    assert type(fast[0]) is nn.Linear  # type: ignore[index]


def test_a_candidate_that_is_wrong_is_never_chosen() -> None:
    model, example = pruned("mlp", 0.95)
    _, table = accelerate(model, example, formats={"wrong": Wrong}, cache=False, seconds=0.1)

    assert {row.chosen for row in table.layers} == {"dense"}
    assert "wrong" not in table.layers[0].times_ms


def test_layers_that_only_look_faster_alone_are_taken_back() -> None:
    model, example = pruned("mlp", 0.95)
    fast, table = accelerate(model, example, formats={"alone": QuickAtFirst}, cache=False, seconds=0.1)

    assert table.note.startswith("left as it was: the whole model is not faster: ")
    assert table.layers[0].chosen == "dense"
    assert table.layers[0].reason == "alone alone is faster, not in the whole model"
    assert type(fast[0]) is nn.Linear  # type: ignore[index]


class Sleepy(nn.Module):
    """Right, and asleep for a while."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        time.sleep(0.003)
        return self.layer(inputs)  # type: ignore[no-any-return]


class Wrong(nn.Module):
    """Fast, and a thousandth too large."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * 1.001  # type: ignore[no-any-return]


class QuickAtFirst(nn.Module):
    """Answers from memory while the input stays the same tensor; another input costs dearly."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.last: tuple[Tensor | None, Tensor | None] = (None, None)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.last[0] is not inputs:
            time.sleep(0.003)
            self.last = inputs, self.layer(inputs)
        assert self.last[1] is not None
        return self.last[1]
