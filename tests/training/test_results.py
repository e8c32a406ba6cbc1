import torch
from torch import nn

from gossamer.data import Dataset
from gossamer.nn import SparseConv1d, SparseLinear
from gossamer.sparsifier import Sparsifier
from gossamer.training import evaluate, find_method
from gossamer.training.build import Setup, set_up
from gossamer.training.results import kept_model, latents_of, masks_of, memories_of
from gossamer.weights import MaskedWeight, prunable

from .small import config, digits


def toy(inputs: torch.Tensor, targets: torch.Tensor) -> Dataset:
    return Dataset(
        name="toy",
        train_inputs=inputs,
        train_targets=targets,
        test_inputs=inputs,
        test_targets=targets,
        num_classes=2,
        sample_shape=(inputs.shape[1],),
        source="by hand",
    )


def masked(model: nn.Module, masks: dict[str, torch.Tensor]) -> Setup:
    """A setup whose sparsifier masks the weights of these names."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weights = prunable(model)
    for weight in weights:
        if weight.name in masks:
            assert isinstance(weight, MaskedWeight)
            weight.set_mask_(masks[weight.name])
    sparsifier = Sparsifier(weights, optimizer, updates=[], generator=torch.Generator())
    return Setup(find_method("static"), "masked", model, optimizer, sparsifier, 1, 1, 0)


def test_evaluation_is_by_hand_whatever_the_batch() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity()).train()
    data = toy(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 0]))

    for batch_size in (1, 2, 3, 1000):
        loss, accuracy = evaluate(model, data, batch_size=batch_size)
        # log 2, log(1 + e^-3), log(1 + e^3); the first of equal scores counts
        assert abs(loss - (0.693147 + 0.048587 + 3.048587) / 3) < 1e-5
        assert accuracy == 2 / 3
    assert model.training


def test_a_masked_layer_is_kept_truly_sparse_zeros_that_exist_included() -> None:
    linear = nn.Linear(3, 2)
    linear.weight.data = torch.tensor([[1.0, 0.0, 2.0], [4.0, 5.0, 6.0]])
    mask = torch.tensor([[True, True, False], [False, False, True]])
    setup = masked(nn.Sequential(linear, nn.ReLU(), nn.Linear(2, 2)), {"0.weight": mask})

    kept = kept_model(setup)

    assert isinstance(kept, nn.Sequential)
    first, last = kept[0], kept[2]
    assert isinstance(first, SparseLinear)
    assert first.values.tolist() == [1.0, 0.0, 6.0]
    assert type(last) is nn.Linear
    assert type(setup.model.get_submodule("0")) is nn.Linear
    inputs = torch.randn(5, 3)
    assert torch.allclose(kept(inputs), setup.model(inputs), atol=1e-6)


def test_what_is_not_masked_is_kept_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    nn.init.zeros_(model.get_parameter("0.weight"))

    assert kept_model(masked(model, {})) is model
    assert masks_of(masked(nn.Sequential(nn.Linear(3, 2)), {})) == {}


def test_a_shared_weight_stays_dense_and_a_shared_module_stays_shared() -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    tied[2].weight = tied[0].weight
    shared = nn.Linear(2, 2)
    mask = torch.eye(2, dtype=torch.bool)

    kept = kept_model(masked(tied, {"0.weight": mask}))
    assert kept[0].weight is kept[2].weight  # type: ignore[index]

    kept = kept_model(masked(nn.Sequential(shared, nn.ReLU(), shared), {"0.weight": mask}))
    assert isinstance(kept[0], SparseLinear)  # type: ignore[index]
    assert kept[0] is kept[2]  # type: ignore[index]


def test_masked_convolutions_and_recurrent_layers_become_truly_sparse() -> None:
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(2, 2))
    mask = torch.eye(2, dtype=torch.bool)

    kept = kept_model(masked(model, {"0.weight": mask[..., None], "2.weight": mask}))

    assert isinstance(kept[0], SparseConv1d)  # type: ignore[index]
    assert kept[0].num_active == 2  # type: ignore[index]
    assert isinstance(kept[2], SparseLinear)  # type: ignore[index]


def test_latent_values_are_counted_among_what_training_holds() -> None:
    setup = masked(nn.Sequential(nn.Linear(3, 2)), {})
    assert setup.sparsifier is not None
    weight = setup.sparsifier.weights[0]
    assert isinstance(weight, MaskedWeight)
    assert latents_of(setup) == []
    weight.keep_latent_(trained=True)

    assert [tuple(each.shape) for each in latents_of(setup)] == [(2, 3)]


def test_what_updates_remember_is_counted_among_what_training_holds() -> None:
    setup = set_up(config(method="snfs"), digits())

    assert [tuple(each.shape) for each in memories_of(setup)] == [(16, 64), (16, 16), (10, 16)]
    assert memories_of(set_up(config(method="set"), digits())) == []
    assert memories_of(set_up(config(method="dense"), digits())) == []
