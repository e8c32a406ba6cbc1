from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import criteria, patterns, solvers
from gossamer.pruning import sensitivity_scan

Data = list[tuple[Tensor, Tensor]]


class Halves(nn.Module):
    """Two layers side by side, of which the second counts for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.heard, self.unheard = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
        self.heard.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0]])

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.heard(inputs) + 0.0 * self.unheard(inputs)
        return outputs


# Of four samples three are ones and one is zeros, in batches of three and one.
DATA = [(torch.ones(3, 4), torch.full((3, 1), 10.0)), (torch.zeros(1, 4), torch.zeros(1, 1))]


def scan(model: nn.Module, **settings: Any) -> dict[str, dict[float, float]]:
    usual: dict[str, Any] = {"sparsities": [0.25, 0.5], "data": DATA, "loss_fn": F.mse_loss}
    return sensitivity_scan(model, **(usual | settings))


def test_losses_rise_where_a_layer_counts_and_are_flat_where_it_does_not() -> None:
    found = scan(Halves())

    # Without 1 the output is 9, without 1 and 2 it is 7: errors of 1 and 9 on three samples of four.
    assert found == {
        "heard.weight": {0.0: 0.0, 0.25: 0.75, 0.5: 6.75},
        "unheard.weight": {0.0: 0.0, 0.25: 0.0, 0.5: 0.0},
    }


def test_one_weight_at_a_time_is_pruned_and_the_model_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(10, 5, generator=generator), torch.randint(3, (10,), generator=generator)
    data = [(inputs[:7], targets[:7]), (inputs[7:], targets[7:])]
    model: Any = gs.models.mlp([5, 6, 3], generator=generator).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = scan(model, sparsities=(0.6, 0.3), data=data, loss_fn=F.cross_entropy)

    for name, losses in found.items():
        assert list(losses) == [0.0, 0.3, 0.6]
        for sparsity, loss in losses.items():
            small = gs.prune(model, sparsity=sparsity, include=name).eval()
            expected = F.cross_entropy(small(inputs), targets)
            assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert len(found) == 2
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_scores_are_taken_once_and_the_dense_loss_too() -> None:
    judged, measured = [], []

    def criterion(weight: Tensor, grad: Tensor) -> Tensor:
        judged.append(weight.shape)
        return criteria.snip(weight, grad)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        # Scoring passes have a history, measuring passes have none.
        measured.append(outputs.requires_grad)
        return F.mse_loss(outputs, targets)

    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1))
    scan(model, criterion=criterion, loss_fn=loss_fn, sparsities=[0.0, 0.5, 0.5, 0.0])

    assert len(judged) == 2
    # Two batches for each of the dense loss and one for each weight.
    assert (measured.count(True), measured.count(False)) == (2, 2 * 3)


def test_the_scan_is_what_the_sensitivity_budget_asks_for() -> None:
    model = Halves()
    losses = scan(model, sparsities=[0.25, 0.5, 0.75])
    small: Any = gs.prune(model, sparsity=0.375, budget=partial(gs.budgets.sensitivity, losses=losses))

    assert [int(weight.count_nonzero()) for weight in small.parameters()] == [4, 1]


def test_a_pattern_is_scanned_as_prune_would_cut_it() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 1.0], [4.0, 0.0], [2.0, 2.0], [3.0, 3.0]])
    model[2].weight.data = torch.ones(2, 4)
    data = [(torch.ones(1, 2), torch.zeros(1, 2))]
    found = scan(model, pattern=patterns.row(), sparsities=[0.5], data=data)

    # Rows of sums 2, 4, 4, 6: the first and, of equals, a later one go; outputs are 16, then 10.
    assert found == {"0.weight": {0.0: 256.0, 0.5: 100.0}}


def test_a_truly_sparse_weight_loses_values_beyond_what_is_gone_already() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    model[0].weight.data = torch.tensor([[0.0, 2.0, 3.0, 4.0]])
    dense = scan(model, sparsities=[0.25, 0.5])["0.weight"]
    sparse = scan(gs.to_sparse(model), sparsities=[0.25, 0.5])["0.values"]

    assert dense == sparse == {0.0: 0.75, 0.25: 0.75, 0.5: 6.75}


def test_what_is_gone_already_goes_first_whatever_its_score() -> None:
    model = Halves()
    model.heard.weight.data[0, 3] = 0.0

    def smallest(weight: Tensor) -> Tensor:
        return -weight.abs()

    # 6, 6 and 3 instead of 10.
    assert scan(model, criterion=smallest)["heard.weight"] == {0.0: 12.0, 0.25: 12.0, 0.5: 36.75}


def test_each_sparsity_starts_from_all_weights_where_masks_are_not_nested() -> None:
    model = Halves()
    model.heard.weight.data = torch.tensor([[3.0, 3.0, 5.0]])
    model.unheard = nn.Linear(3, 1, bias=False)
    data = [(torch.ones(1, 3), torch.zeros(1, 1))]
    found = scan(model, pattern=patterns.block(1, 2), sparsities=[0.3, 0.6], data=data, include="heard.*")

    # Blocks of 3 + 3 and of 5: two weights are kept of the first, then one, of the second.
    assert found == {"heard.weight": {0.0: 121.0, 0.3: 36.0, 0.6: 25.0}}


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sparsities": ()}, "there is no sparsity to try"),
    ({"sparsities": [0.5, 1.0]}, r"must lie in \[0, 1\), got 1.0"),
    ({"sparsities": [-0.1]}, r"must lie in \[0, 1\), got -0.1"),
    ({"data": []}, "the data gave no batch"),
    ({"data": iter(DATA)}, "already read to its end; pass a list"),
    ({"loss_fn": lambda outputs, targets: outputs}, "the loss must be a scalar"),
    ({"loss_fn": lambda outputs, targets: outputs.sum() / 0}, "the loss is inf"),
    ({"criterion": solvers.obc}, "obc is a solver"),
    ({"criterion": criteria.magnitude_increase}, "needs first"),
    ({"include": "nothing"}, "matches nothing"),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES, ids=[message[:30] for _, message in MISTAKES])
def test_a_mistake_is_one_clear_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scan(Halves(), **settings)


def test_a_loss_that_is_lost_by_pruning_names_the_weight_and_the_sparsity() -> None:
    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.tensor(torch.inf) if bool((outputs != targets).any()) else outputs.sum()

    model = Halves()
    with pytest.raises(ValueError, match="the loss is inf") as caught:
        scan(model, loss_fn=loss_fn)

    assert model.heard.weight.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert caught.value.__notes__ == ["with heard.weight pruned to a sparsity of 0.25"]
