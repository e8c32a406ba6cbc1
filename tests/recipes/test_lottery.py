import gc
import itertools
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from gossamer import recipes, to_sparse
from gossamer.models import mlp
from gossamer.recipes import (
    Ticket,
    lottery_tickets,
    reinitialized_ticket,
    shuffled_ticket,
    thin_layers,
    thin_model,
)
from gossamer.rewinding import snapshot

from .network import seeded

INPUTS = torch.randn(16, 10, generator=seeded())


def make_model() -> nn.Sequential:
    return mlp([10, 8, 5], generator=seeded())


def train(model: nn.Module, number: int, steps: int = 5) -> float:
    optimizer = AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Tensor = model(INPUTS).pow(2).mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def counts_of(ticket: Ticket) -> list[int]:
    return [int(mask.sum()) for mask in ticket.masks.values()]


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def test_each_layer_loses_its_fraction_and_the_output_layer_half_of_it() -> None:
    weights = {"a": torch.tensor([[5.0, -1.0, 2.0, 4.0, -3.0]]), "b": torch.tensor([[5.0, -1.0, 2.0, 4.0, -3.0]])}
    masks = {"a": ones(1, 5), "b": ones(1, 5)}
    thinned = thin_layers(weights, masks, 0.4)

    assert thinned["a"].tolist() == [[True, False, False, True, True]]
    assert thinned["b"].tolist() == [[True, False, True, True, True]]


def test_the_whole_model_loses_its_smallest_survivors_and_nothing_comes_back() -> None:
    weights = {"a": torch.tensor([[5.0, -1.0]]), "b": torch.tensor([[9.0, 0.5, 0.25]])}
    masks = {"a": ones(1, 2), "b": torch.tensor([[False, True, True]])}
    thinned = thin_model(weights, masks, 0.5)

    assert thinned["a"].tolist() == [[True, True]]
    assert thinned["b"].tolist() == [[False, False, False]]


def test_tickets_come_round_by_round_with_exact_counts() -> None:
    tickets = list(lottery_tickets(make_model, train, num_rounds=3))

    assert [ticket.round for ticket in tickets] == [0, 1, 2, 3]
    # round(80 * 0.8) and so on; of the output layer round(40 * 0.9) and so on
    assert [counts_of(ticket) for ticket in tickets] == [[80, 40], [64, 36], [51, 32], [41, 29]]
    assert [ticket.num_active for ticket in tickets] == [120, 100, 83, 70]
    assert all(isinstance(ticket.result, float) for ticket in tickets)
    for one, other in itertools.pairwise(tickets):
        assert all(not (other.masks[name] & ~mask).any() for name, mask in one.masks.items())


def test_survivors_start_where_the_dense_network_started_and_removed_weights_stay_zero() -> None:
    starts = []

    def watched(model: nn.Module, number: int) -> float:
        starts.append(snapshot(model))
        return train(model, number)

    first = snapshot(make_model())
    for ticket in lottery_tickets(make_model, watched, num_rounds=2):
        for name, mask in ticket.masks.items():
            assert torch.equal(starts[-1][name], torch.where(mask, first[name], 0.0))
            trained = ticket.model.get_parameter(name)
            assert not trained[~mask].any()
            assert not torch.equal(trained, starts[-1][name])
        assert torch.equal(starts[-1]["0.bias"], first["0.bias"])


def test_a_model_made_otherwise_each_time_goes_back_to_the_first_all_the_same() -> None:
    seeds = iter(range(10))
    starts = []

    def watched(model: nn.Module, number: int) -> None:
        starts.append(snapshot(model)["0.weight"])

    tickets = list(lottery_tickets(lambda: mlp([10, 8, 5], generator=seeded(next(seeds))), watched, num_rounds=1))
    assert torch.equal(starts[1], torch.where(tickets[1].masks["0.weight"], starts[0], 0.0))


def test_later_values_that_the_first_training_notes_are_what_survivors_go_back_to() -> None:
    early: dict[str, Tensor] = {}
    starts = []

    def noting(model: nn.Module, number: int) -> None:
        starts.append(snapshot(model)["0.weight"])
        train(model, number, steps=2)
        if number == 0:
            early.update(snapshot(model))
            train(model, number)

    tickets = list(lottery_tickets(make_model, noting, num_rounds=1, rewind_to=early))

    assert torch.equal(starts[0], snapshot(make_model())["0.weight"])
    assert torch.equal(starts[1], torch.where(tickets[1].masks["0.weight"], early["0.weight"], 0.0))


def test_early_values_that_nobody_filled_in_are_an_error() -> None:
    tickets = lottery_tickets(make_model, train, num_rounds=1, rewind_to={})
    next(tickets)

    with pytest.raises(ValueError, match=r"the snapshot has no"):
        next(tickets)


def test_the_masks_of_a_round_continue_the_search_bit_for_bit() -> None:
    whole = list(lottery_tickets(make_model, train, num_rounds=3, thin=thin_model))
    rest = lottery_tickets(
        make_model, train, num_rounds=3, thin=thin_model, start_round=2, start_masks=whole[1].next_masks
    )

    for again, ticket in zip(rest, whole[2:], strict=True):
        assert (again.round, again.num_active, again.result) == (ticket.round, ticket.num_active, ticket.result)
        assert all(torch.equal(again.next_masks[name], mask) for name, mask in ticket.next_masks.items())


def test_the_search_holds_no_trained_model() -> None:
    tickets = lottery_tickets(make_model, train, num_rounds=2)
    held = weakref.ref(next(tickets).model)
    gc.collect()

    assert held() is None
    assert next(tickets).round == 1


def test_the_hooks_are_gone_when_the_ticket_is_there_and_when_training_fails() -> None:
    models = []

    def failing(model: nn.Module, number: int) -> None:
        models.append(model)
        if number == 1:
            raise KeyError("data")

    tickets = lottery_tickets(make_model, failing, num_rounds=1)
    next(tickets)
    with pytest.raises(KeyError):
        next(tickets)

    assert all(not model.get_parameter("0.weight")._backward_hooks for model in models)


def test_training_that_moves_removed_weights_is_found_and_hold_prevents_it() -> None:
    def noisy(model: nn.Module, number: int) -> None:
        sparsifier = recipes.hold(model, SGD(model.parameters(), lr=0.1)) if number else None
        model.get_parameter("0.weight").data.add_(0.5)
        if sparsifier:
            sparsifier.finalize()

    def noisier(model: nn.Module, number: int) -> None:
        model.get_parameter("0.weight").data.add_(0.5)

    assert len(list(lottery_tickets(make_model, noisy, num_rounds=1))) == 2
    with pytest.raises(RuntimeError, match=r"training moved removed weights of 0.weight in round 1; call recipes.hold"):
        list(lottery_tickets(make_model, noisier, num_rounds=1))


def test_the_control_of_random_values_has_the_masks_and_other_values() -> None:
    ticket = list(lottery_tickets(make_model, train, num_rounds=2))[-1]
    starts = []

    def watched(model: nn.Module, number: int) -> float:
        starts.append((snapshot(model), number))
        return train(model, number)

    control = reinitialized_ticket(make_model, watched, ticket, generator=seeded(5))

    state, number = starts[0]
    assert number == 2
    first = snapshot(make_model())
    for name, mask in control.masks.items():
        assert torch.equal(mask, ticket.masks[name])
        assert torch.equal(state[name] != 0, mask)
        assert not (state[name] == first[name])[mask].any()
    assert control.result != ticket.result


def test_the_control_of_shuffled_masks_has_the_counts_and_early_values() -> None:
    ticket = list(lottery_tickets(make_model, train, num_rounds=2))[-1]
    starts = []

    def watched(model: nn.Module, number: int) -> None:
        starts.append(snapshot(model))

    control = shuffled_ticket(make_model, watched, ticket, generator=seeded(5))

    first = snapshot(make_model())
    assert counts_of(control) == counts_of(ticket)
    for name, mask in control.masks.items():
        assert not torch.equal(mask, ticket.masks[name])
        assert torch.equal(starts[0][name], torch.where(mask, first[name], 0.0))


def test_frozen_layers_are_left_out() -> None:
    def frozen_output() -> nn.Sequential:
        model = make_model()
        model[2].requires_grad_(False)
        return model

    tickets = list(lottery_tickets(frozen_output, train, num_rounds=1))

    assert list(tickets[1].masks) == ["0.weight"]
    assert tickets[1].model.get_parameter("2.weight").all()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"sparsity_per_round": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
        ({"num_rounds": -1}, "need 0 <= start_round <= num_rounds, got 0 and -1"),
        ({"start_round": 3, "start_masks": {}}, "got 3 and 2"),
        ({"start_round": 1}, "start_round=1 and start_masks belong together"),
        ({"start_masks": {}}, "start_round=0 and start_masks belong together"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_at_once(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        lottery_tickets(make_model, train, **({"num_rounds": 2} | changed))


def test_masks_of_another_model_and_truly_sparse_models_are_refused() -> None:
    masks = {"0.weight": ones(8, 10)}

    with pytest.raises(ValueError, match=r"there are masks for 0.weight, the model has 0.weight, 2.weight"):
        next(lottery_tickets(make_model, train, num_rounds=1, start_round=1, start_masks=masks))

    def sparse() -> nn.Module:
        model = make_model()
        model.get_parameter("0.weight").data[0] = 0.0
        return to_sparse(model)

    with pytest.raises(ValueError, match=r"0.values is truly sparse; lottery tickets are drawn from a dense model"):
        next(lottery_tickets(sparse, train, num_rounds=1))


def test_training_that_takes_a_weight_away_is_an_error_and_a_new_parameter_is_the_one_judged() -> None:
    def sparse(model: nn.Module, number: int) -> None:
        if number:
            model[0] = to_sparse(model).get_submodule("0")  # type: ignore[operator]

    with pytest.raises(
        RuntimeError, match=r"in round 1 the model has no weight 0.weight of shape \(8, 10\); train it in"
    ):
        list(lottery_tickets(make_model, sparse, num_rounds=1))

    def replaced(model: nn.Module, number: int) -> None:
        layer = model.get_submodule("0")
        layer.weight = nn.Parameter(torch.arange(80.0).view(8, 10))

    ticket = next(lottery_tickets(make_model, replaced, num_rounds=1))
    assert ticket.next_masks["0.weight"].flatten().nonzero().flatten().tolist() == list(range(16, 80))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.MultiheadAttention])
def test_recurrent_layers_and_attention_have_tickets_and_controls(kind: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = kind(10, 2)
            self.output = nn.Linear(2 if kind is nn.LSTM else 10, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            found = self.layer(inputs) if kind is nn.LSTM else self.layer(inputs, inputs, inputs)
            outputs: Tensor = self.output(found[0])
            return outputs

    ticket = list(lottery_tickets(Model, train, num_rounds=1))[-1]
    controls = [
        control(Model, train, ticket, generator=seeded()) for control in (reinitialized_ticket, shuffled_ticket)
    ]

    for one in (ticket, *controls):
        active = {name: int(one.model.get_parameter(name).count_nonzero()) for name in one.masks}
        assert list(active.values()) == counts_of(ticket)
        assert one.num_active == sum(active.values()) < sum(mask.numel() for mask in one.masks.values())


@pytest.mark.parametrize("control", [reinitialized_ticket, shuffled_ticket])
def test_controls_refuse_the_ticket_of_another_model(control: Any) -> None:
    ticket = next(lottery_tickets(make_model, train, num_rounds=0))

    with pytest.raises(
        ValueError, match=r"there are masks for 0.weight, 2.weight, the model has 0.weight, 2.weight, 4.w"
    ):
        control(lambda: mlp([10, 8, 5, 2], generator=seeded()), train, ticket, generator=seeded())


@pytest.mark.parametrize("thin", [thin_layers, thin_model])
@pytest.mark.parametrize(
    ("weights", "masks", "sparsity", "text"),
    [
        ({}, {}, 0.2, "there are weights none and masks for none"),
        ({"a": torch.ones(2, 2)}, {"b": ones(2, 2)}, 0.2, "there are weights a and masks for b"),
        ({"a": torch.ones(2, 2)}, {"a": torch.ones(2, 2)}, 0.2, "the mask of a is torch.float32 of shape"),
        ({"a": torch.ones(2, 2)}, {"a": ones(4)}, 0.2, r"the mask of a is torch.bool of shape \(4,\)"),
        ({"a": torch.full((2, 2), torch.nan)}, {"a": ones(2, 2)}, 0.2, "a holds NaN, which cannot be ranked"),
        ({"a": torch.ones(2, 2)}, {"a": ones(2, 2)}, 1.0, r"sparsity must lie in \[0, 1\), got 1.0"),
    ],
)
def test_what_cannot_be_thinned_is_refused(thin: Any, weights: Any, masks: Any, sparsity: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        thin(weights, masks, sparsity)
