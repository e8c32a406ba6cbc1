import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer.training import Config, NotFiniteError, TrainingInterruptedError, finetune

from .small import config, digits

DATA = digits()


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def one_step(**changes: object) -> Config:
    """One step of plain gradient descent on all rows."""
    return config(**{"epochs": 1, "batch_size": 200, "momentum": 0.0, "weight_decay": 0.0, **changes})


def by_hand(model: nn.Module, teacher: nn.Module | None, learning_rate: float) -> dict[str, Tensor]:
    """That step, with zeros put back afterwards."""
    model = copy.deepcopy(model)
    outputs = model(DATA.train_inputs)
    loss = cross_entropy(outputs, DATA.train_targets)
    if teacher is not None:
        mine, theirs = (torch.log_softmax(one / 4.0, 1) for one in (outputs, teacher(DATA.train_inputs).detach()))
        loss = 0.5 * loss + 0.5 * 16.0 * (theirs.exp() * (theirs - mine)).sum(1).mean()
    loss.backward()
    return {
        name: torch.where((weight == 0) & (weight.dim() == 2), 0.0, weight - learning_rate * weight.grad)
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def dense(model: nn.Module) -> dict[str, Tensor]:
    return dict(gs.to_dense(model).state_dict())


@pytest.mark.parametrize("truly", [False, True])
@pytest.mark.parametrize("taught", [False, True])
def test_a_step_is_that_of_the_labels_or_of_labels_and_teacher_in_equal_parts(truly: bool, taught: bool) -> None:
    small, teacher = gs.prune(network(), sparsity=0.8), network(1) if taught else None

    tuned = finetune(gs.to_sparse(small) if truly else small, one_step(learning_rate=0.5), DATA, teacher=teacher)

    for name, wanted in by_hand(small, teacher, 0.5).items():
        torch.testing.assert_close(dense(tuned)[name], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("truly", [False, True])
def test_what_is_absent_stays_absent_and_the_model_stays_as_it_is(truly: bool) -> None:
    small = gs.prune(network(), sparsity=0.7)
    given = gs.to_sparse(small) if truly else small
    before = copy.deepcopy(given.state_dict())

    tuned = finetune(given, config(weight_decay=0.1), DATA)

    for name in ("0.weight", "2.weight"):
        assert torch.equal(dense(tuned)[name] != 0, small.state_dict()[name] != 0)
        assert not torch.equal(dense(tuned)[name], small.state_dict()[name])
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    for parameter in (*given.parameters(), *tuned.parameters()):
        assert not parameter._backward_hooks


@pytest.mark.parametrize("truly", [False, True])
def test_survivors_start_from_an_earlier_state_even_where_it_was_zero(truly: bool) -> None:
    small, first = gs.prune(network(), sparsity=0.5), network(1)
    masks = {name: (value != 0) | (value.dim() == 1) for name, value in small.state_dict().items()}
    with torch.no_grad():
        first.get_parameter("0.weight")[:, :32] = 0.0
    start = copy.deepcopy(first)
    for name, value in start.named_parameters():
        value.data *= masks[name]
    cross_entropy(start(DATA.train_inputs), DATA.train_targets).backward()

    given = gs.to_sparse(small) if truly else small
    tuned = finetune(given, one_step(learning_rate=0.5), DATA, earlier=first.state_dict())

    for name, value in start.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(dense(tuned)[name], (value - 0.5 * value.grad) * masks[name])


def test_a_network_of_which_nothing_is_missing_is_trained_too() -> None:
    tuned = finetune(network(), one_step(learning_rate=0.5), DATA)

    for name, wanted in by_hand(network(), None, 0.5).items():
        torch.testing.assert_close(tuned.state_dict()[name], wanted)


@pytest.mark.parametrize("include", ["*", "table.*"])
def test_a_table_that_was_pruned_is_held(include: str) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(17, 4), nn.Linear(256, 10)

        def forward(self, inputs: Tensor) -> Tensor:
            rows: Tensor = self.table((inputs > 0).long())
            outputs: Tensor = self.out(rows.flatten(1))
            return outputs

    small = gs.prune(Words(), sparsity=0.5, include=include)

    tuned = finetune(small, config(learning_rate=0.5), DATA)

    assert torch.equal(tuned.state_dict()["table.weight"] == 0, small.state_dict()["table.weight"] == 0)


def test_the_seed_alone_decides_and_the_callers_randomness_is_left_alone() -> None:
    small = nn.Sequential(nn.Dropout(0.5), gs.prune(network(), sparsity=0.7))
    before = torch.get_rng_state()
    tuned = finetune(small, config(), DATA)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)

    again, other = finetune(small, config(), DATA), finetune(small, config(seed=1), DATA)

    assert torch.equal(again.state_dict()["1.0.weight"], tuned.state_dict()["1.0.weight"])
    assert not torch.equal(other.state_dict()["1.0.weight"], tuned.state_dict()["1.0.weight"])


def test_what_a_model_does_in_training_it_does_whatever_mode_it_comes_in() -> None:
    small = nn.Sequential(nn.Dropout(0.5), gs.prune(network(), sparsity=0.7))

    first, second, plain = (
        finetune(one, one_step(), DATA) for one in (small.train(), copy.deepcopy(small).eval(), small[1])
    )

    assert torch.equal(first.state_dict()["1.0.weight"], second.state_dict()["1.0.weight"])
    assert not torch.equal(first.state_dict()["1.0.weight"], plain.state_dict()["0.weight"])


def test_the_teacher_answers_without_dropout_and_keeps_its_mode() -> None:
    small, teacher = gs.prune(network(), sparsity=0.8), network(1)
    wavering = nn.Sequential(nn.Dropout(0.9), teacher).train()

    tuned = finetune(small, one_step(), DATA, teacher=wavering)

    assert torch.equal(
        tuned.state_dict()["0.weight"], finetune(small, one_step(), DATA, teacher=teacher).state_dict()["0.weight"]
    )
    assert wavering.training


@pytest.mark.parametrize("is_training", [False, True])
def test_the_mode_is_that_of_the_model(is_training: bool) -> None:
    assert finetune(gs.prune(network(), sparsity=0.8).train(is_training), one_step(), DATA).training is is_training


def test_a_loss_that_diverges_is_an_error() -> None:
    with pytest.raises(
        NotFiniteError, match=r"the loss became (nan|inf) at step \d+ of 15 of the fine-tuning; nothing"
    ):
        finetune(gs.prune(network(), sparsity=0.5), config(learning_rate=1e30), DATA)


def test_weights_that_the_last_step_spoils_are_found() -> None:
    with pytest.raises(NotFiniteError, match=r"0\.weight became nan at step 1 of 1"):
        finetune(gs.prune(network(), sparsity=0.5), one_step(learning_rate=1e38, weight_decay=1e38), DATA)


def test_the_stop_is_asked_for_after_each_step_and_the_hooks_go() -> None:
    seen: list[tuple[int, int]] = []
    small = gs.prune(network(), sparsity=0.5)

    with pytest.raises(TrainingInterruptedError, match=r"fine-tuning stopped after step 2 of 15; nothing was written$"):
        finetune(
            small,
            config(),
            DATA,
            watch=lambda step, num_steps, note: seen.append((step, num_steps)),
            should_stop=lambda: len(seen) == 2,
        )

    assert seen == [(1, 15), (2, 15)]


def test_a_cosine_lets_the_rate_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: rates.append(self.param_groups[0]["lr"]))

    finetune(gs.prune(network(), sparsity=0.5), config(learning_rate=1.0, decay="cosine", batch_size=100), DATA)

    wanted = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert rates == pytest.approx(wanted)


def test_all_training_rows_are_trained_on_and_no_test_row() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            outputs: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
            return outputs

    finetune(gs.prune(Watching(*network()), sparsity=0.5), config(epochs=1), DATA)

    rows = {tuple(row.tolist()) for row in torch.cat(seen)}
    assert rows == {tuple(row.tolist()) for row in DATA.train_inputs}


def test_no_two_epochs_of_any_two_seeds_have_the_same_order() -> None:
    orders: list[tuple[float, ...]] = []

    class Watching(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            orders.append(tuple(inputs.flatten().tolist()))
            outputs: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
            return outputs

    for seed in (0, 1, 2):
        finetune(gs.prune(Watching(*network()), sparsity=0.5), config(epochs=3, batch_size=200, seed=seed), DATA)

    assert len(set(orders)) == len(orders) == 9
