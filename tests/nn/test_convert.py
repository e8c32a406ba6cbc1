import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import budgets, masks, recipes
from gossamer.nn import SparseLinear, sparsify, to_dense, to_sparse


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pruned(*, sparsity: float = 0.6) -> nn.Sequential:
    """Return a dense model with zeros, and modules that no conversion touches."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.Linear(8, 3))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            keep = round((1 - sparsity) * parameter.numel())
            parameter.data.mul_(masks.draw(tuple(parameter.shape), keep, generator=seeded()))
    return model


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_untouched(model: nn.Module, before: dict[str, Tensor]) -> None:
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pruned_model_and_its_truly_sparse_copy_compute_the_same() -> None:
    model = pruned().double().eval()
    before = snapshot(model)
    inputs = torch.randn(5, 6, generator=seeded(1), dtype=torch.float64)

    sparse = to_sparse(model)

    assert [type(layer) is SparseLinear for layer in sparse.children()] == [True, False, False, True, True]
    torch.testing.assert_close(sparse(inputs), model(inputs))
    assert_untouched(model, before)
    assert all(type(layer) is not SparseLinear for layer in model)


def test_there_and_back_gives_the_same_bits_and_keys() -> None:
    model = pruned()
    there = to_sparse(model)
    before = snapshot(there)

    back = to_dense(there)

    assert [type(layer) for layer in back.children()] == [type(layer) for layer in model]
    assert_untouched(back, snapshot(model))
    assert_untouched(there, before)


def test_layers_without_a_zero_stay_dense() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].get_parameter("weight").data[0, 0] = 0.0

    assert [type(layer) for layer in to_sparse(model).children()] == [nn.Linear, SparseLinear]
    with pytest.raises(ValueError, match="no layer of Linear holds a zero weight; prune it first"):
        to_sparse(nn.Linear(3, 4))


def test_a_root_layer_is_converted_itself() -> None:
    layer = nn.Linear(10, 10)

    sparse = sparsify(layer, sparsity=0.9, generator=seeded())
    assert isinstance(sparse, SparseLinear)
    assert sparse.num_active == 10
    assert type(to_dense(sparse)) is nn.Linear
    assert isinstance(to_sparse(to_dense(sparse)), SparseLinear)


@pytest.mark.parametrize("budget", [budgets.er, budgets.erk, budgets.uniform])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_sparsify_meets_the_budget_to_the_weight(budget: budgets.Budget, sparsity: float) -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))

    sparse = sparsify(model, sparsity=sparsity, budget=budget, generator=seeded())

    found = {name: layer.num_active for name, layer in sparse.named_children() if isinstance(layer, SparseLinear)}
    assert found == budget({"0": (30, 20), "2": (10, 30)}, sparsity=sparsity)


def test_sparsify_keeps_values_of_a_trained_model_and_scales_those_of_a_new_one() -> None:
    layer = nn.Linear(40, 30)
    kept, scaled = (sparsify(layer, sparsity=0.8, generator=seeded(), rescale=flag) for flag in (False, True))
    assert isinstance(kept, SparseLinear)
    assert isinstance(scaled, SparseLinear)

    mask = kept.to_dense().weight.detach().ne(0)
    assert torch.equal(kept.to_dense().weight, layer.weight * mask)
    live = mask.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(scaled.to_dense().weight, (layer.weight * mask * (40 / live).sqrt()).detach())
    assert torch.equal(kept.column_indices, scaled.column_indices)


def test_the_seed_decides_the_places_and_the_original_is_left_alone() -> None:
    torch.manual_seed(0)
    model = pruned()
    before, state = snapshot(model), torch.get_rng_state()

    first, again, other = (snapshot(sparsify(model, sparsity=0.5, generator=seeded(s))) for s in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.column_indices"], other["0.column_indices"])
    assert_untouched(model, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_copy_shares_no_memory_with_the_original() -> None:
    model = pruned().eval()
    for twin in (to_sparse(model), to_dense(to_sparse(model)), sparsify(model, sparsity=0.5, generator=seeded())):
        before = snapshot(model)
        for value in twin.state_dict().values():
            if value.is_floating_point():
                value.fill_(7.0)

        assert_untouched(model, before)


def test_a_frozen_parameter_stays_frozen_and_an_evaluated_model_evaluates() -> None:
    model = pruned().eval()
    model[0].weight.requires_grad_(False)
    model[4].bias.requires_grad_(False)
    sparse = to_sparse(model)

    flags = {name: parameter.requires_grad for name, parameter in sparse.named_parameters()}
    assert (flags["0.values"], flags["0.bias"], flags["4.values"], flags["4.bias"]) == (False, True, True, False)
    assert [p.requires_grad for p in to_dense(sparse).parameters()] == [p.requires_grad for p in model.parameters()]
    assert not any(module.training for module in [*sparse.modules(), *to_dense(sparse).modules()])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    model = pruned().to(dtype)

    for twin in (to_sparse(model), to_dense(to_sparse(model)), sparsify(model, sparsity=0.5, generator=seeded())):
        assert {parameter.dtype for parameter in twin.parameters()} == {dtype}


def test_buffers_are_copied_and_extra_attributes_follow() -> None:
    class Users(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("scale", torch.tensor(3.0))
            self.also = [self.layer]

    model = Users()
    sparse = sparsify(model, sparsity=0.5, generator=seeded())
    assert isinstance(sparse, Users)

    assert torch.equal(sparse.get_buffer("scale"), torch.tensor(3.0))
    assert sparse.get_buffer("scale") is not model.scale
    assert sparse.also[0] is sparse.layer
    assert type(sparse.get_submodule("layer")) is SparseLinear


def test_a_shared_module_stays_shared() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)

    sparse = sparsify(model, sparsity=0.5, generator=seeded())

    first, last = sparse.get_submodule("0"), sparse.get_submodule("2")
    assert first is last
    assert isinstance(first, SparseLinear)
    dense = to_dense(sparse)
    assert dense.get_submodule("0") is dense.get_submodule("2")


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_tied_parameters_are_refused_by_name(kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].get_parameter("weight").data[0, 0] = 0.0
    setattr(model[1], kind, getattr(model[0], kind))

    with pytest.raises(ValueError, match=f"the {kind} of 0 is shared by 0, 1"):
        sparsify(model, sparsity=0.5, generator=seeded())
    with pytest.raises(ValueError, match=f"the {kind} of 0 is shared by 0, 1"):
        to_sparse(model)


def test_a_weight_tied_to_an_embedding_is_refused_until_it_is_excluded() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "body": nn.Linear(4, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["table"].weight
    with pytest.raises(ValueError, match="the weight of head is shared by head, table"):
        sparsify(model, sparsity=0.5, generator=seeded())
    sparse = sparsify(model, sparsity=0.5, generator=seeded(), exclude=["head"])

    assert isinstance(sparse.get_submodule("body"), SparseLinear)
    assert sparse.get_parameter("head.weight") is sparse.get_parameter("table.weight")


def test_tied_values_are_refused_on_the_way_back() -> None:
    first, last = (SparseLinear(4, 4, sparsity=0.5, generator=seeded()) for _ in range(2))
    last.values = first.values

    with pytest.raises(ValueError, match="the values of 0 is shared by 0, 1"):
        to_dense(nn.Sequential(first, last))


def test_subclasses_of_linear_stay_as_they_are() -> None:
    attention = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, dropout=0.0)
    inputs = torch.randn(2, 3, 8, generator=seeded(1))

    sparse = sparsify(attention, sparsity=0.5, generator=seeded())

    kinds = {name: type(module) for name, module in sparse.named_modules()}
    assert kinds["linear1"] is kinds["linear2"] is SparseLinear
    assert kinds["self_attn.out_proj"] is type(attention.self_attn.out_proj) is not nn.Linear
    assert sparse(inputs).shape == inputs.shape
    torch.testing.assert_close(to_dense(sparse)(inputs), sparse(inputs))


@pytest.mark.parametrize(
    "exclude", [["head*"], "head*", ("head.?",), iter(["head*"])], ids=["list", "text", "tuple", "iterator"]
)
def test_excluded_layers_stay_dense(exclude: list[str]) -> None:
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.ModuleList([nn.Linear(4, 2)])})

    sparse = sparsify(model, sparsity=0.5, generator=seeded(), exclude=exclude)

    assert isinstance(sparse.get_submodule("body"), SparseLinear)
    assert type(sparse.get_submodule("head.0")) is nn.Linear


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(nn.Conv3d(1, 1, 1))])
def test_a_model_without_layers_to_convert_is_an_error(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"{type(model).__name__} has no layer to make sparse, of Linear, Conv1d"):
        sparsify(model, sparsity=0.5, generator=seeded())
    with pytest.raises(ValueError, match=r"no layer to make sparse, of Embedding, Linear"):
        to_sparse(model)
    assert type(to_dense(model)) is type(model)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 90.0])
def test_a_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        sparsify(nn.Linear(3, 2), sparsity=sparsity, generator=seeded())


def test_the_end_of_masked_training_becomes_truly_sparse() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = recipes.set_(model, optimizer, update_every=2, stop_step=9, generator=seeded(), sparsity=0.5)
    inputs = torch.randn(5, 6, generator=seeded(1))
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
    sparsifier.finalize()

    sparse = to_sparse(model)
    found = [layer.num_active for layer in sparse.children() if isinstance(layer, SparseLinear)]
    assert found == [weight.num_active for weight in sparsifier.weights]
    torch.testing.assert_close(sparse(inputs), model(inputs))


def test_a_converted_model_can_be_copied_and_trained() -> None:
    sparse = copy.deepcopy(sparsify(pruned(), sparsity=0.5, generator=seeded()))
    optimizer = SGD(sparse.parameters(), lr=0.1)
    before = snapshot(sparse)
    sparse(torch.randn(5, 6, generator=seeded(1))).pow(2).mean().backward()
    optimizer.step()

    assert not torch.equal(sparse.get_parameter("0.values"), before["0.values"])
