"""Models and data of users: each of these once gave a wrong result or an error that nobody could read."""

import gc
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader

import gossamer as gs
from gossamer import budgets, criteria, patterns, solvers, statistics

Pair = namedtuple("Pair", ["first", "second"])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Folded(nn.Module):
    """The first axis of its layer is that of positions, of which there are as many as samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.layer.weight.data.fill_(1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs.transpose(0, 1)).sum(0)
        return outputs


class ByKeyword(nn.Module):
    """Calls its layers by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(input=inputs)
        return outputs


@pytest.mark.parametrize("positions", [8, 7])
def test_curvature_knows_samples_from_positions(positions: int) -> None:
    model = Folded()
    data = [(torch.ones(8, positions, 1), torch.zeros(8, 1))]

    found = statistics.hessian_diagonal(
        model, {"w": model.layer.weight}, data, F.mse_loss, generator=seeded(), num_probes=3
    )

    # The output is w times the number of positions; one weight has no noise.
    assert found["w"].item() == pytest.approx(2 * positions**2, rel=1e-5)


def test_curvature_sees_a_small_penalty_on_the_weights() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 2))
    inputs = torch.randn(8, 3, generator=seeded())
    inputs[:, 0] = 0.0
    weight: Tensor = model[0].weight

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) + 1e-3 * weight.square().sum()

    data = [(inputs, torch.zeros(8, dtype=torch.long))]
    found = statistics.hessian_diagonal(model, {"w": weight}, data, loss_fn, generator=seeded(), num_probes=400)

    # The first input is always zero: what is left is the penalty's.
    assert found["w"][:, 0].tolist() == pytest.approx([2e-3, 2e-3], rel=1e-3)


def test_sums_over_many_batches_do_not_stall_in_half_precision() -> None:
    model: Any = nn.Sequential(nn.Linear(1, 1, bias=False)).bfloat16()
    ones = torch.ones(100, 1).bfloat16()

    assert statistics.output_sensitivity(model, {"w": model[0].weight}, [ones] * 10)["w"].item() == 1.0


def test_a_last_batch_of_one_sample_does_not_stop_the_normalisation() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))
    inputs = torch.randn(11, 8, generator=seeded())

    small: Any = gs.prune(model, sparsity=0.5, data=inputs.split(5))
    whole: Any = gs.prune(model, sparsity=0.5, data=inputs[:10].split(5))

    assert torch.equal(small[1].running_mean, whole[1].running_mean)
    with pytest.raises(ValueError, match=r"no batch has two samples.*reestimate=False"):
        gs.prune(model, sparsity=0.5, data=inputs.split(1))


@pytest.mark.parametrize("solver", [solvers.obc_nm, solvers.sparsegpt_nm])
def test_groups_of_n_m_bring_nothing_back(solver: Any) -> None:
    generator = seeded()
    once: Any = gs.prune(gs.models.mlp([16, 8, 2], generator=generator), sparsity=0.4)

    twice: Any = gs.prune(
        once, sparsity=0.5, criterion=solver, pattern=patterns.nm(2, 4), data=[torch.randn(50, 16, generator=generator)]
    )

    assert not bool((twice[0].weight[once[0].weight == 0] != 0).any())


@pytest.mark.parametrize("criterion", [criteria.grasp, criteria.obd])
def test_attention_is_differentiated_twice(criterion: Any) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    data = [(torch.randn(3, 4, 8, generator=seeded()), torch.randn(3, 4, 8, generator=seeded()))]

    small = gs.prune(model, sparsity=0.5, criterion=criterion, data=data, loss_fn=F.mse_loss, generator=seeded())

    assert sum(int((weight == 0).sum()) for weight in small.parameters() if weight.dim() > 1) == 192


def test_words_of_a_table_are_not_judged_by_its_dimensions() -> None:
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 2))

    with pytest.raises(ValueError, match=r"0\.weight is of Embedding, whose outputs are not its rows; exclude it"):
        gs.prune(model, sparsity=0.5, criterion=criteria.energy, pattern=patterns.row(), data=[torch.tensor([[2, 3]])])


def test_the_memory_of_a_flow_is_given_back_at_once() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 4))
    gc.collect()
    gc.disable()
    before = {id(each) for each in _linear_layers()}
    try:
        gs.prune(model, sparsity=0.5, criterion=criteria.synflow, data=[torch.ones(1, 64)])
        left = _linear_layers()
    finally:
        gc.enable()

    assert id(model[0]) in before
    assert not [layer for layer in left if id(layer) not in before and layer.weight.dtype == torch.float64]


def _linear_layers() -> list[nn.Linear]:
    return [each for each in gc.get_objects() if type(each) is nn.Linear]


@pytest.mark.parametrize("budget", [budgets.lamp, budgets.global_])
def test_budgets_by_scores_split_what_is_there_under_any_pattern(budget: Any) -> None:
    model = gs.models.mlp([8, 8, 4], generator=seeded())

    small = gs.prune(model, sparsity=0.5, pattern=patterns.nm(2, 4), budget=budget, rounds=2)
    wanda = gs.prune(
        gs.prune(model, sparsity=0.1), sparsity=0.5, criterion=criteria.wanda, budget=budget, data=[torch.ones(5, 8)]
    )

    for found in (small, wanda):
        assert sum(int(weight.count_nonzero()) for weight in found.parameters() if weight.dim() > 1) == 48


@pytest.mark.parametrize(
    ("criterion", "pattern"), [(criteria.synflow, None), (criteria.similarity, patterns.row()), (criteria.wanda, None)]
)
def test_random_numbers_come_as_they_would_have_without(criterion: Any, pattern: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    loader: Any = DataLoader(torch.randn(8, 4, generator=seeded()), batch_size=4)  # type: ignore[arg-type]
    before = torch.get_rng_state()

    gs.prune(model, sparsity=0.5, criterion=criterion, pattern=pattern, data=loader)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("criterion", [criteria.wanda, criteria.synflow, criteria.obd, criteria.snip])
def test_layers_may_be_called_by_keyword(criterion: Any) -> None:
    data = [(torch.randn(4, 4, generator=seeded()), torch.zeros(4, dtype=torch.long))]

    small: Any = gs.prune(
        ByKeyword(), sparsity=0.5, criterion=criterion, data=data, loss_fn=F.cross_entropy, generator=seeded()
    )

    assert int(small.layer.weight.count_nonzero()) == 4


def test_a_model_that_cannot_be_copied_is_told_what_to_do() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    torch_prune.l1_unstructured(model[0], "weight", 0.5)

    with pytest.raises(ValueError, match=r"cannot be copied.*torch\.nn\.utils\.prune\.remove"):
        gs.prune(model, sparsity=0.8)


def test_named_tuples_stay_what_they_are() -> None:
    class Summing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            outputs: Tensor = self.layer(first + second)
            return outputs

    data = [(Pair(torch.ones(2, 3), torch.ones(2, 3)), torch.zeros(2, dtype=torch.long))]

    small: Any = gs.prune(Summing(), sparsity=0.5, criterion=criteria.fisher, data=data, loss_fn=F.cross_entropy)

    assert int(small.layer.weight.count_nonzero()) == 3


def test_a_layer_that_sees_other_rows_than_samples_is_named() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.last(self.first(torch.cat([inputs, inputs]))[: len(inputs)])
            return outputs

    data = [(torch.randn(4, 6, generator=seeded()), torch.randn(4, 3, generator=seeded()))]

    with pytest.raises(ValueError, match=r"the layer of first\.weight is called on 8 rows where the batch has 4"):
        gs.prune(
            Doubling(), sparsity=0.5, criterion=criteria.skeletonization, pattern=patterns.row(), data=data,
            loss_fn=F.mse_loss,
        )  # fmt: skip
