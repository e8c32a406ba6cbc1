"""What a snapshot has for each entry of a model's state, checked as a whole before anything is changed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.nn.counterparts import SparseLayer, weight_shape
from gossamer.rewinding.survivors import Masks, sparse_layers

# The last three say what the shape of the weight is, each for another kind of layer.
_TOPOLOGY = ("row_pointers", "column_indices", "column_pointers", "weight_shape", "size")


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's state by name; what else a module keeps there is none of ours."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def early_values(model: nn.Module, earlier: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each entry of the state but the topologies was, by name; raises unless the whole snapshot fits."""
    state, sparse = tensors(model), sparse_layers(model)
    paths = {name.rpartition(".")[0] for name in state} | {path.removesuffix(".") for path in sparse}
    prefixes = [f"{path}.".lstrip(".") for path in paths]
    known = state.keys() | {path + part for path in prefixes for part in ("weight", "values", *_TOPOLOGY)}
    if unknown := [name for name in earlier if name not in known]:
        raise ValueError(
            f"the snapshot has {', '.join(unknown)}, the model has not; take it from a model of the same architecture"
        )
    values = {path + "values": _values_at(layer, path, earlier) for path, layer in sparse.items()}
    places = {path + part for path in sparse for part in _TOPOLOGY}
    # In the order of the state, so that what happens is the same in every process.
    values |= {
        name: _fitting(earlier, name, now) for name, now in state.items() if name not in values and name not in places
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


def _values_at(layer: SparseLayer, path: str, earlier: Mapping[str, Tensor]) -> Tensor:
    """What the snapshot, dense or truly sparse there, has at the places that are active now."""
    places = topology.linear_indices(layer.topology)
    if path + "weight" in earlier:
        shape, values = tuple(earlier[path + "weight"].shape), earlier[path + "weight"].flatten().to(places.device)
        was = None
    else:
        shape, then, values = _sparse_entry(earlier, path)
        was = topology.linear_indices(then).to(places.device)
    now = weight_shape(layer)
    if shape != now:
        raise ValueError(f"the weight of {path} has shape {shape} in the snapshot, {now} in the model")
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
        shape, then, values = _sparse_entry(earlier, path)
        value = values.new_zeros(shape)
        value.view(-1)[topology.linear_indices(then)] = values
    else:
        value = _entry(earlier, name)
    if value.shape != now.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)} in the snapshot, {tuple(now.shape)} in the model")
    return value


def _sparse_entry(earlier: Mapping[str, Tensor], path: str) -> tuple[tuple[int, ...], topology.Topology, Tensor]:
    """Shape of the dense weight, its topology as a matrix, and the values."""
    values, rows, columns = (_entry(earlier, path + part) for part in ("values", *_TOPOLOGY[:2]))
    given = next((earlier[path + part] for part in ("weight_shape", "size") if path + part in earlier), None)
    if given is not None:
        shape = tuple(map(int, given))
    else:
        shape = (rows.numel() - 1, _entry(earlier, path + "column_pointers").numel() - 1)
    return shape, topology.Topology((shape[0], math.prod(shape[1:])), rows, columns), values


def _entry(earlier: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in earlier:
        raise ValueError(f"the snapshot has no {name}; take it from a model of the same architecture")
    return earlier[name]


def check_whole(earlier: Mapping[str, Tensor], shuffled: Masks, sparse: Mapping[str, SparseLayer]) -> None:
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
