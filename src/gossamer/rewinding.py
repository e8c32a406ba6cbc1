"""Retraining: surviving weights with the values of an earlier step, or, as a control, with new ones."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gossamer import masks, sampling, topology
from gossamer.growth import fan_in_uniform
from gossamer.nn import SparseLinear
from gossamer.schedules import Schedule
from gossamer.weights.prunable import own_weights

Masks = Mapping[str, Tensor]
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, SparseLinear)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_TOPOLOGY = ("row_pointers", "column_indices", "column_pointers")


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all that a model's state holds: parameters, buffers, topologies.

    Example:
        >>> list(snapshot(nn.Linear(2, 1)))
        ['weight', 'bias']
    """
    return {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}


@torch.no_grad()
def rewind_(model: nn.Module, earlier: Mapping[str, Tensor], *, survivors: Masks | None = None) -> None:
    """Give surviving weights their values of an earlier step; zeros stay zeros, topologies stay as they are.

    Biases, norms and buffers such as running means go back too: all but which weights exist. A weight that was absent
    at the earlier step becomes zero. The optimizer is not touched; make a new one.

    Args:
        model: dense with zeros, truly sparse, or mixed.
        earlier: from `snapshot`, of this model or of a dense one of the same architecture.
        survivors: masks by name of the dense weights, bool, True = survives. Default: what is not zero now.

    Raises:
        ValueError: the snapshot or the masks are of another architecture, a mask is not bool, or the snapshot holds NaN
            or two values for what the model shares. Nothing is changed then.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> earlier = snapshot(layer)
        >>> layer.weight.data = torch.tensor([[7.0, 0.0]])
        >>> rewind_(layer, earlier)
        >>> (layer.weight == earlier["weight"]).tolist(), float(layer.weight.detach()[0, 1])
        ([[True, False]], 0.0)

    Source:
        Renda, Frankle, Carbin. Comparing rewinding and fine-tuning in neural network pruning. ICLR 2020,
        arXiv:2003.02389. Frankle, Dziugaite, Roy, Carbin. Stabilizing the lottery ticket hypothesis. 2019,
        arXiv:1903.01611.
    """
    kept = _survivors(model, survivors)
    fresh = _early_values(model, earlier)
    state = _tensors(model)
    for name, value in fresh.items():
        # A mask may stand under one name of a shared weight; under the others it must hold too.
        mask = next((mask for mask, weight in kept.values() if _is_same(weight, state[name])), None)
        state[name].copy_(value if mask is None else value.to(mask.device).masked_fill(~mask, 0))


@torch.no_grad()
def reinitialize_(model: nn.Module, *, generator: torch.Generator, survivors: Masks | None = None) -> None:
    """Draw new values for surviving weights: uniform in +-sqrt(6 / live fan-in); biases zero, norms as when made.

    Linear layers, convolutions, recurrent layers, attention and norms change, and of these what is trained; zeros stay
    zeros. Embeddings keep the values that survive.

    Args:
        model: dense with zeros, truly sparse, or mixed.
        generator: source of randomness, on the CPU.
        survivors: masks by name of the dense weights, bool, True = survives. Default: what is not zero now.

    Raises:
        ValueError: the masks are of another architecture, or not bool. Nothing is changed then.

    Source:
        Frankle, Carbin. The lottery ticket hypothesis. ICLR 2019, arXiv:1803.03635: the control of random values.
        Values: He et al. 2015, arXiv:1502.01852. Differs: the live fan-in, not the size of the layer.
    """
    drawn = [weight for _, weight in _survivors(model, None, embeddings=False).values()]
    for mask, weight in _survivors(model, survivors).values():
        if weight.requires_grad:
            weight.masked_fill_(~mask, 0)
        if weight.requires_grad and any(weight is other for other in drawn):
            weight[mask] = _draw(mask.flatten(1).nonzero()[:, 0], len(mask), generator).to(weight)
    for module in model.modules():
        if isinstance(module, SparseLinear) and module.values.requires_grad:
            rows = topology.row_indices(module.topology).long()
            module.values.copy_(_draw(rows, module.out_features, generator))
        if isinstance(module, _LAYERS):
            for name, own in module.named_parameters(recurse=False):
                if "bias" in name and own.requires_grad:
                    own.zero_()
        if isinstance(module, _NORMS) and all(own.requires_grad for own in module.parameters(recurse=False)):
            module.reset_parameters()


@torch.no_grad()
def shuffle_masks_(
    model: nn.Module, *, generator: torch.Generator, earlier: Mapping[str, Tensor] | None = None
) -> None:
    """Let as many weights of each layer survive as now, at random places: is it the places that matter?

    Embeddings keep the places that they have.

    Args:
        model: dense with zeros, truly sparse, or mixed; layers without a zero keep all weights.
        generator: source of randomness, on the CPU.
        earlier: snapshot of a dense model to take the values from, see `rewind_`. Default: they are drawn anew.

    Raises:
        ValueError: the snapshot is of another architecture, or holds no values at the new places. Nothing is changed
            then.

    Source:
        Frankle, Dziugaite, Roy, Carbin. Pruning neural networks at initialization: why are we missing the mark?
        ICLR 2021, arXiv:2009.08576.
    """
    shuffled = {
        name: masks.draw(tuple(mask.shape), int(mask.sum()), generator=generator).to(mask.device)
        for name, (mask, weight) in _survivors(model, None, embeddings=False).items()
        if weight.requires_grad
    }
    sparse = {path: layer for path, layer in _sparse_layers(model).items() if layer.values.requires_grad}
    if earlier is not None:
        _early_values(model, earlier)
        _check_whole(earlier, shuffled, sparse)
    for layer in sparse.values():
        rows, columns = layer.topology.shape
        drawn = sampling.distinct(rows * columns, layer.num_active, generator=generator).to(layer.values.device)
        layer.replace_(topology.from_linear(drawn, (rows, columns)), layer.values)
    if earlier is None:
        reinitialize_(model, generator=generator, survivors=shuffled)
    else:
        rewind_(model, earlier, survivors=shuffled)


def rewound_schedule(schedule: Schedule, *, stop_step: int, num_steps: int) -> Schedule:
    """Replay the last steps of a schedule, such as that of the learning rate, while the pruned network is retrained.

    value(t) = schedule(stop_step - num_steps + t), and from t = num_steps on that of the last step

    Args:
        schedule: of the training before.
        stop_step: how many steps that took, >= 1.
        num_steps: how many of them to replay, in [1, stop_step].

    Raises:
        ValueError: more steps than there were, or none.

    Example:
        >>> again = rewound_schedule(lambda step: 1.0 - step / 10, stop_step=10, num_steps=3)
        >>> [round(again(step), 1) for step in range(5)]
        [0.3, 0.2, 0.1, 0.1, 0.1]

    Source:
        Renda, Frankle, Carbin. Comparing rewinding and fine-tuning in neural network pruning. ICLR 2020,
        arXiv:2003.02389.
    """
    if not 1 <= num_steps <= stop_step:
        raise ValueError(f"num_steps must lie in [1, stop_step], got {num_steps} of {stop_step}")
    return lambda step: schedule(stop_step - num_steps + min(step, num_steps - 1))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _survivors(
    model: nn.Module, given: Masks | None, *, embeddings: bool = True
) -> dict[str, tuple[Tensor, nn.Parameter]]:
    """The mask and the parameter of each dense weight by its name; a shared one comes once."""
    given = given or {}
    names: dict[nn.Parameter, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for own in own_weights(module, embeddings=embeddings):
            # One that is computed by a parametrization is no parameter.
            weight = None if isinstance(module, SparseLinear) else module._parameters.get(own)
            if weight is not None:
                names.setdefault(weight, []).append(f"{path}.{own}".lstrip("."))
    found = {}
    for weight, known in names.items():
        name = next((name for name in known if name in given), known[0])
        found[name] = (_checked(name, given[name], weight) if name in given else weight != 0, weight)
    if unknown := sorted(set(given) - set(found)):
        raise ValueError(f"there are masks for {', '.join(unknown)}, the model has dense weights {', '.join(found)}")
    return found


def _checked(name: str, mask: Tensor, weight: Tensor) -> Tensor:
    """The mask on the device of its weight."""
    if mask.shape != weight.shape:
        raise ValueError(f"the mask of {name} has shape {tuple(mask.shape)}, the weight {tuple(weight.shape)}")
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask of {name} has dtype {mask.dtype}; a mask is bool, True = survives")
    return mask.to(weight.device)


def _is_same(parameter: Tensor, entry: Tensor) -> bool:
    """Whether an entry of the state is this parameter; tensors without entries all have one address."""
    mine, theirs = ((one.data_ptr(), one.shape, one.stride()) for one in (parameter, entry))
    return mine == theirs


def _sparse_layers(model: nn.Module) -> dict[str, SparseLinear]:
    """The truly sparse layers by the prefix of their names in a state."""
    modules = model.named_modules(remove_duplicate=False)
    return {f"{path}.".lstrip("."): module for path, module in modules if isinstance(module, SparseLinear)}


def _check_whole(earlier: Mapping[str, Tensor], shuffled: Masks, sparse: Mapping[str, SparseLinear]) -> None:
    """Raise unless the snapshot has a value for whatever place a weight may move to."""
    # What is whole stays where it is, and may have been zero.
    moved = [name for name, mask in shuffled.items() if not bool(mask.all())]
    names = [*moved, *(path + "weight" for path, layer in sparse.items() if layer.sparsity)]
    if lacking := [name for name in names if name not in earlier or not _is_whole(earlier[name])]:
        raise ValueError(
            f"the snapshot has no value for some places of {', '.join(lacking)}; take it from the dense model, before "
            "anything was pruned"
        )


def _is_whole(values: Tensor) -> bool:
    return bool((values.isfinite() & (values != 0)).all())


def _early_values(model: nn.Module, earlier: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each entry of the state but the topologies was, by name; raises unless the whole snapshot fits."""
    state, sparse = _tensors(model), _sparse_layers(model)
    paths = {name.rpartition(".")[0] for name in state} | {path.removesuffix(".") for path in sparse}
    prefixes = [f"{path}.".lstrip(".") for path in paths]
    known = state.keys() | {path + part for path in prefixes for part in ("weight", "values", *_TOPOLOGY)}
    if unknown := [name for name in earlier if name not in known]:
        raise ValueError(
            f"the snapshot has {', '.join(unknown)}, the model has not; take it from a model of the same architecture"
        )
    values = {path + "values": _values_at(layer, path, earlier) for path, layer in sparse.items()}
    # In the order of the state, so that what happens is the same in every process.
    values |= {
        name: _fitting(earlier, name, now)
        for name, now in state.items()
        if name not in values and not name.endswith(_TOPOLOGY)
    }
    _check_values(model, values)
    return values


def _check_values(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    first: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in values and bool(values[name].isnan().any()):
            raise ValueError(f"{name} is NaN in the snapshot; take it before the training diverges")
        other = first.setdefault(parameter, name)
        if name in values and not torch.equal(values[other], values[name]):
            raise ValueError(
                f"{other} and {name} are one in the model, and differ in the snapshot; take it from a model of the "
                "same architecture"
            )


def _values_at(layer: SparseLinear, path: str, earlier: Mapping[str, Tensor]) -> Tensor:
    """What the snapshot, dense or truly sparse there, has at the places that are active now."""
    places = topology.linear_indices(layer.topology)
    if path + "weight" in earlier:
        shape, values = tuple(earlier[path + "weight"].shape), earlier[path + "weight"].flatten().to(places.device)
        was = None
    else:
        then, values = _sparse_entry(earlier, path)
        shape, was = then.shape, topology.linear_indices(then).to(places.device)
    if shape != layer.topology.shape:
        raise ValueError(f"the weight of {path} has shape {shape} in the snapshot, {layer.topology.shape} in the model")
    if was is None:
        return values[places]
    if not was.numel():
        return values.new_zeros(places.shape)
    slots = torch.searchsorted(was, places).clamp(max=was.numel() - 1)
    return torch.where(was[slots] == places, values.to(places.device)[slots], 0)


def _fitting(earlier: Mapping[str, Tensor], name: str, now: Tensor) -> Tensor:
    """What the snapshot has under a name, made dense if it is truly sparse there; of the right shape."""
    path = name.removesuffix("weight")
    if name not in earlier and path + "values" in earlier:
        then, values = _sparse_entry(earlier, path)
        value = values.new_zeros(then.shape)
        value.view(-1)[topology.linear_indices(then)] = values
    else:
        value = _entry(earlier, name)
    if value.shape != now.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)} in the snapshot, {tuple(now.shape)} in the model")
    return value


def _sparse_entry(earlier: Mapping[str, Tensor], path: str) -> tuple[topology.Topology, Tensor]:
    values, rows, columns, inputs = (_entry(earlier, path + part) for part in ("values", *_TOPOLOGY))
    return topology.Topology((rows.numel() - 1, inputs.numel() - 1), rows, columns), values


def _entry(earlier: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in earlier:
        raise ValueError(f"the snapshot has no {name}; take it from a model of the same architecture")
    return earlier[name]


def _draw(rows: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    return fan_in_uniform(rows, torch.bincount(rows, minlength=num_rows), generator=generator)
