"""A model in one safetensors file, topology included: nothing to execute, no bigger than its active weights."""

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor, nn

from gossamer import atomic, topology
from gossamer.formats.portable import portable
from gossamer.neurons.fit import fit_, fits
from gossamer.nn import SparseLinear
from gossamer.nn.counterparts import SPARSE_LAYERS, can_be_sparse, empty_of, parts, weight_shape
from gossamer.topology import Topology

_FORMAT = "gossamer 1"


class SavedModel(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: the model's state by name.
        sparse_layers: shape of the weight of each truly sparse layer by name, as the dense layer has it; a recurrent
            layer has several in it.
        metadata: the other texts that were saved along.
    """

    tensors: dict[str, Tensor]
    sparse_layers: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def save(model: nn.Module, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Save a model's state, truly sparse layers as values and topology, to a safetensors file.

    The file is written aside and renamed, so that it is whole or not there.

    Args:
        model: any module whose state_dict holds tensors. Of one from `gs.accelerate` the layers for inference alone are
            saved truly sparse, which every machine can load, and accelerate again.
        path: of the file; the folder exists.
        metadata: texts to keep in the file.

    Raises:
        OSError: the file could not be written; an older one at `path` is as it was.
        ValueError: a metadata key is one of the format's own, or the state holds something that is no tensor.
    """
    model = portable(model)
    layers = {
        name: list(weight_shape(layer)) for name, layer in model.named_modules() if isinstance(layer, SPARSE_LAYERS)
    }
    own = {"format": _FORMAT, "sparse_layers": json.dumps(layers)}
    if taken := own.keys() & (metadata or {}).keys():
        raise ValueError(f"metadata may not use {', '.join(sorted(taken))}; the format uses these keys itself")
    entries = model.state_dict()
    if others := [name for name, entry in entries.items() if not isinstance(entry, Tensor)]:
        raise ValueError(f"{', '.join(others)} in the state is no tensor; a safetensors file holds tensors only")
    # Tied tensors are stored once for each name: safetensors knows no sharing.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in entries.items()}
    atomic.write(
        Path(path), lambda aside: safetensors.torch.save_file(state, aside, metadata={**(metadata or {}), **own})
    )


def read(path: str | Path) -> SavedModel:
    """Read a file that `save` wrote, or any safetensors file, which then has no truly sparse layers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a whole safetensors file, or its topologies are inconsistent.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the model.safetensors of a run")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}); save the model again") from error
    made_by, text = metadata.pop("format", _FORMAT), metadata.pop("sparse_layers", "{}")
    if made_by != _FORMAT and made_by.startswith("gossamer"):
        raise ValueError(f"{path} has the format {made_by!r}, this version reads {_FORMAT!r}; update gossamer")
    return SavedModel(tensors, _checked_layers(path, text, tensors), metadata)


def _checked_layers(path: Path, text: str, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of the truly sparse layers; a file can bring anything."""
    layers: dict[str, tuple[int, ...]] = {}
    name = ""
    try:
        for name, sizes in json.loads(text).items():
            layers[name] = tuple(int(size) for size in sizes)
            if len(sizes) < 2 or min(layers[name]) < 0:
                raise ValueError(f"a weight of shape {sizes}")
            places = topology_of(tensors, name, layers[name])
            topology.check_topology(places)
            values = tensors[f"{name}.values" if name else "values"]
            if values.shape != places.column_indices.shape:
                raise ValueError(f"values of shape {tuple(values.shape)} for {places.num_active} places")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: layer {name!r} is damaged: {reason}; save the model again") from error
    return layers


def topology_of(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Topology:
    """Return the topology of a truly sparse layer, its weight as a matrix, from a state's tensors."""
    prefix = f"{name}." if name else ""
    matrix = (shape[0], math.prod(shape[1:]))
    return Topology(matrix, tensors[f"{prefix}row_pointers"], tensors[f"{prefix}column_indices"])


def load(path: str | Path, model: nn.Module) -> nn.Module:
    """Return a copy of a model with the state, and the truly sparse layers, of a file.

    Args:
        path: a file that `save` wrote.
        model: the architecture, its layers dense or truly sparse, at whatever places; it is left as it is. Devices
            and dtypes are those of its parameters. Hidden layers may have other sizes, as where neurons were removed:
            the copy has those of the file, see `gossamer.neurons.fit_`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or of another model.
    """
    saved = read(path)
    model = _fitted(model, saved.tensors)
    modules = dict(model.named_modules())
    memo: dict[int, nn.Module] = {}
    for name, shape in saved.sparse_layers.items():
        found, dense = _place_of(name, modules)
        if found != shape:
            there = " x ".join(map(str, found)) if found else _described(modules.get(name))
            raise ValueError(
                f"{path} is of another model: its layer {name!r} is truly sparse, {' x '.join(map(str, shape))}, there "
                f"the model has {there}; give the architecture that was saved"
            )
        if isinstance(dense, nn.Linear):
            memo[id(dense)] = _room_for(topology_of(saved.tensors, name, shape), dense)
        elif dense is not None and id(dense) not in memo:
            memo[id(dense)] = empty_of(dense)
    result: nn.Module = copy.deepcopy(model, memo)
    try:
        result.load_state_dict(saved.tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} is of another model: {' '.join(str(error).split())}") from error
    return result


def _fitted(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model, or a copy of it whose hidden layers have the sizes of a state."""
    if fits(model, tensors):
        return model
    fitted = copy.deepcopy(model)
    fit_(fitted, tensors)
    return fitted


def _described(layer: nn.Module | None) -> str:
    return "none" if layer is None else f"a {type(layer).__name__}"


def _place_of(name: str, modules: Mapping[str, nn.Module]) -> tuple[tuple[int, ...] | None, nn.Module | None]:
    """Shape of the weight that a truly sparse layer would fill in a model; the dense layer that it takes the place of.

    A recurrent layer is dense as a whole, while its weights are layers where it is truly sparse.
    """
    layer = modules.get(name)
    if isinstance(layer, SPARSE_LAYERS):
        return weight_shape(layer), None
    if isinstance(layer, nn.Linear) or (layer is not None and can_be_sparse(layer) and "weight" in parts(layer)):
        return tuple(layer.get_parameter("weight").shape), layer
    path, _, inner = name.rpartition(".")
    whole = modules.get(path)
    if whole is not None and can_be_sparse(whole):
        for own, part in parts(whole).items():
            if part == inner:
                return tuple(whole.get_parameter(own).shape), whole
    return None, None


def _room_for(places: Topology, linear: nn.Linear) -> SparseLinear:
    """A truly sparse layer in place of a dense one, of its dtype, device and mode, to be filled."""
    places = Topology(places.shape, *(part.to(linear.weight.device) for part in places[1:]))
    layer = SparseLinear.from_topology(places, linear.weight.new_zeros(places.num_active), linear.bias)
    layer.values.requires_grad_(linear.weight.requires_grad)
    if layer.bias is not None:
        layer.bias.requires_grad_(linear.bias.requires_grad)
    return layer.train(linear.training)
