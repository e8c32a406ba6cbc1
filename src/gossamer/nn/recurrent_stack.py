"""The way through the layers, directions and time steps of a sparse recurrent layer."""

import functools
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gossamer.kernels import gates, unroll
from gossamer.kernels.operands import is_autocast
from gossamer.nn.packed_steps import Stretch, stretches, through
from gossamer.nn.recurrent_weights import Layer, names
from gossamer.nn.sparse_linear import SparseLinear

# What goes in comes out: a tensor for a tensor, a packed sequence for a packed one.
Inputs = TypeVar("Inputs", Tensor, PackedSequence)


def run(
    layer: Layer, kind: gates.Kind, inputs: Inputs, hidden: Tensor | None, cell: Tensor | None = None
) -> tuple[Inputs, Tensor, Tensor | None]:
    """Go through all layers and directions.

    Args:
        layer: sparse layer.
        kind: which equations.
        inputs: [T, B, input_size], [B, T, input_size] if batch_first, or [T, input_size]; or packed sequences.
        hidden: first hidden states, [layers x directions, B, H], without B for inputs without, or None for zeros.
        cell: first cell states, for "lstm".

    Returns:
        Outputs [T, B, H x directions] in the order of the inputs, packed as they are; last hidden and cell states, as
        the first ones.

    Raises:
        ValueError: a shape that does not fit.
    """
    if isinstance(inputs, PackedSequence):
        return _run_packed(layer, kind, inputs, hidden, cell)
    alone = _check_inputs(layer, inputs)
    first = _first_weight(layer)
    if is_autocast(inputs):
        inputs = inputs.to(first.dtype)
    turned = layer.batch_first and not alone
    sequence = inputs[:, None] if alone else inputs.transpose(0, 1) if turned else inputs
    steps, batch = sequence.shape[:2]
    states = [_check_state(layer, state, batch, alone, inputs) for state in (hidden, cell)]
    # Turned into [features, steps x batch] at once: the products need it so.
    flat = sequence.permute(2, 0, 1).reshape(sequence.shape[2], steps * batch).t() if turned else sequence.flatten(0, 1)
    parts = [Stretch(steps, batch)]
    flat, hidden, last_cell = _through(layer, kind, flat, states[0], states[1] if kind == "lstm" else None, parts)
    outputs = flat.view(steps, batch, flat.shape[1])
    outputs = outputs[:, 0] if alone else outputs.transpose(0, 1) if turned else outputs
    if alone:
        hidden, last_cell = hidden[:, 0], None if last_cell is None else last_cell[:, 0]
    return outputs, hidden, last_cell


def _run_packed(
    layer: Layer, kind: gates.Kind, inputs: PackedSequence, hidden: Tensor | None, cell: Tensor | None
) -> tuple[PackedSequence, Tensor, Tensor | None]:
    flat, batch_sizes, order, back = inputs
    if flat.dim() != 2 or flat.shape[1] != layer.input_size:
        raise ValueError(
            f"the packed data has shape {tuple(flat.shape)}; the layer takes [all steps, input_size] with input_size = "
            f"{layer.input_size}"
        )
    if is_autocast(flat):
        flat = flat.to(_first_weight(layer).dtype)
    sizes: list[int] = batch_sizes.tolist()
    if not sizes or sizes[-1] < 1 or sizes != sorted(sizes, reverse=True) or sum(sizes) != len(flat):
        raise ValueError(
            f"batch_sizes are {sizes} for {len(flat)} rows of packed data; they must descend, each 1 or more, and add "
            "up to the rows: make the sequence with pack_sequence or pack_padded_sequence"
        )
    parts = stretches(sizes)
    given = [_check_state(layer, state, parts[0].batch, False, flat) for state in (hidden, cell)]
    states = given if order is None else [state.index_select(1, order) for state in given]
    flat, last, last_cell = _through(layer, kind, flat, states[0], states[1] if kind == "lstm" else None, parts)
    if back is not None:
        last, last_cell = last.index_select(1, back), None if last_cell is None else last_cell.index_select(1, back)
    return PackedSequence(flat, batch_sizes, order, back), last, last_cell


def _through(
    layer: Layer, kind: gates.Kind, flat: Tensor, hidden: Tensor, cell: Tensor | None, parts: Sequence[Stretch]
) -> tuple[Tensor, Tensor, Tensor | None]:
    ways = 2 if layer.bidirectional else 1
    ends = [end for end, _ in names(layer.num_layers, ways == 2)]
    last: list[tuple[Tensor, Tensor | None]] = []
    for start in range(0, len(ends), ways):
        if start and layer.dropout and layer.training:
            flat = nn.functional.dropout(flat, layer.dropout)
        outputs = []
        for place in range(start, start + ways):
            setting = unroll.Setting(kind, place > start)
            input_, hidden_ = (layer.get_submodule(f"{part}_{ends[place]}") for part in ("input", "hidden"))
            first_cell = None if cell is None else cell[place]
            output, last_hidden, last_cell = through(
                functools.partial(_unroll, setting, hidden_),
                input_(flat),
                hidden[place],
                first_cell,
                parts,
                reverse=setting.reverse,
            )
            outputs.append(output)
            last.append((last_hidden, last_cell))
        flat = outputs[0] if ways == 1 else torch.cat([output.t() for output in outputs]).t()
    cells = [state for _, state in last if state is not None]
    return flat, torch.stack([state for state, _ in last]), torch.stack(cells) if cells else None


def _unroll(
    setting: unroll.Setting, hidden_: nn.Module, projected: Tensor, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    if type(hidden_) is SparseLinear and len(hidden):
        values, bias = hidden_.values, hidden_.bias
        if unroll.is_plain(projected, values, bias, hidden, cell):
            watch = hidden_ if _is_watched(hidden_) else None
            return unroll.unroll(setting, projected, values, bias, (hidden, cell), hidden_._index(), watch)
    return gates.unroll(setting.kind, projected, hidden_, hidden, cell, reverse=setting.reverse)


def _is_watched(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or nn.modules.module._has_any_global_hook()


def _first_weight(layer: Layer) -> Tensor:
    weight = layer.get_submodule("input_0")
    return weight.values if isinstance(weight, SparseLinear) else weight.get_parameter("weight")


def _check_inputs(layer: Layer, inputs: Tensor) -> bool:
    """Raise unless the inputs fit; return whether they are one sequence without a batch."""
    what = "[B, T, input_size]" if layer.batch_first else "[T, B, input_size]"
    if inputs.dim() not in (2, 3) or inputs.shape[-1] != layer.input_size:
        raise ValueError(
            f"input has shape {tuple(inputs.shape)}; the layer takes {what} or [T, input_size] with input_size = "
            f"{layer.input_size}"
        )
    steps = inputs.shape[1] if layer.batch_first and inputs.dim() == 3 else inputs.shape[0]
    if not steps:
        raise ValueError(f"input has shape {tuple(inputs.shape)}, no step at all; give one or more")
    return inputs.dim() == 2


def _check_state(layer: Layer, state: Tensor | None, batch: int, alone: bool, inputs: Tensor) -> Tensor:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (rows, batch, layer.hidden_size)
    if state is None:
        return inputs.new_zeros(shape)
    expected = (rows, shape[2]) if alone else shape
    if state.shape != expected:
        raise ValueError(f"a first state has shape {tuple(state.shape)}; for this input it must be {expected}")
    if is_autocast(inputs):
        state = state.to(inputs.dtype)
    if state.dtype != inputs.dtype:
        raise ValueError(f"a first state is {state.dtype} but the input {inputs.dtype}; convert one")
    return state[:, None] if alone else state
