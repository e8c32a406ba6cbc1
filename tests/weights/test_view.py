import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

from gossamer.weights import MaskedWeight, is_held, num_open, numel, prunable

from .storage import STORAGES, dense_gradient, random_dense, state_of, view_of

both = pytest.mark.parametrize("storage", STORAGES)


@both
def test_a_view_lists_active_entries_in_the_order_of_their_place(storage: str) -> None:
    _, weight = view_of(torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, -4.0]]), storage)

    assert weight.shape == (2, 3)
    assert weight.num_active == 3
    assert weight.indices().tolist() == [1, 3, 5]
    assert weight.values().tolist() == [2.0, 3.0, -4.0]
    assert not weight.values().requires_grad
    assert (numel(weight), num_open(weight)) == (6, 6)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_both_storages_go_through_the_same_changes(data: st.DataObject, rows: int, columns: int) -> None:
    dense = random_dense(rows, columns, data.draw(st.floats(0, 1)), data.draw(st.integers(0, 9)))
    views = [view_of(dense, storage)[1] for storage in STORAGES]
    active = views[0].indices().tolist()
    kept_slots = sorted(data.draw(st.sets(st.sampled_from(range(len(active)))))) if active else []
    free = [place for place in range(rows * columns) if place not in {active[slot] for slot in kept_slots}]
    grown = torch.tensor(sorted(data.draw(st.sets(st.sampled_from(free)))) if free else [], dtype=torch.int64)
    for weight in views:
        weight.change_(torch.tensor(kept_slots, dtype=torch.int64), grown, grown * 10.0 + 1.0, None)

    expected = {active[slot]: float(dense.flatten()[active[slot]]) for slot in kept_slots}
    expected |= {place: place * 10.0 + 1.0 for place in grown.tolist()}
    for weight in views:
        assert weight.indices().tolist() == sorted(expected)
        assert weight.values().tolist() == [expected[place] for place in sorted(expected)]
        assert weight.num_active == len(expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@both
def test_a_change_keeps_the_dtype(storage: str, dtype: torch.dtype) -> None:
    _, weight = view_of(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=dtype), storage)
    weight.change_(torch.tensor([1]), torch.tensor([0]), torch.tensor([0.25]), None)

    assert weight.values().dtype == dtype
    assert weight.values().tolist() == [0.25, 2.0]


def test_a_channels_last_convolution_changes_as_a_contiguous_one() -> None:
    plain, conv = (nn.Conv2d(3, 4, 2, bias=False) for _ in range(2))
    conv.weight = nn.Parameter(plain.weight.detach().to(memory_format=torch.channels_last))
    mask = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) < 0.5
    results = []
    for layer in (conv, plain):
        weight = prunable(layer)[0]
        assert isinstance(weight, MaskedWeight)
        weight.set_mask_(mask)
        weight.attach()
        weight.watch()
        optimizer = SGD([weight.parameter], lr=0.1, momentum=0.9)
        layer(torch.ones(2, 3, 5, 5).to(memory_format=torch.channels_last)).pow(2).sum().backward()
        gradient = dense_gradient(weight)
        optimizer.step()
        absent = (~mask.flatten()).nonzero().flatten()[:4]
        weight.change_(torch.arange(3, weight.num_active), absent, torch.ones(4), optimizer)
        moments = state_of(optimizer.state[weight.parameter], weight)
        results.append([weight.indices(), weight.values(), *moments, gradient])

    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(results[0][0], results[1][0])
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(one, other)


def test_a_mask_of_another_shape_is_refused() -> None:
    weight = prunable(nn.Linear(3, 2))[0]
    assert isinstance(weight, MaskedWeight)

    with pytest.raises(ValueError, match=r"mask has shape \(3, 2\), weight has \(2, 3\)"):
        weight.set_mask_(torch.ones(3, 2, dtype=torch.bool))


def test_a_mask_is_copied_and_zeroes_what_it_leaves_out() -> None:
    linear, mask = nn.Linear(3, 2), torch.tensor([[True, False, True], [False, True, False]])
    weight = prunable(linear)[0]
    assert isinstance(weight, MaskedWeight)
    weight.set_mask_(mask)
    mask.fill_(False)

    assert weight.num_active == 3
    assert linear.weight.count_nonzero() == 3


@both
def test_attach_and_detach_leave_no_trace(storage: str) -> None:
    module, weight = view_of(random_dense(4, 5, 0.4), storage)
    assert is_held(weight)
    weight.detach()

    assert not is_held(weight)
    assert not module._forward_hooks
    assert not any(parameter._backward_hooks for parameter in module.parameters())
