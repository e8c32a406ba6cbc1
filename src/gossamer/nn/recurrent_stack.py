"""The way through the layers, directions and time steps of a sparse recurrent layer."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gossamer.kernels import gates, unroll
from gossamer.nn.recurrent_weights import Layer, names
from gossamer.nn.sparse_linear import SparseLinear


def run(
    layer: Layer, kind: gates.Kind, inputs: Tensor, hidden: Tensor | None, cell: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Go through all layers and directions.

    Args:
        layer: sparse layer.
        kind: which equations.
        inputs: [T, B, input_size], [B, T, input_size] if batch_first, or [T, input_size].
        hidden: first hidden states, [layers x directions, B, H], without B for inputs without, or None for zeros.
        cell: first cell states, for "lstm".

    Returns:
        Outputs [T, B, H x directions] in the order of the inputs; last hidden and cell states, as the first ones.

    Raises:
        TypeError: a packed sequence.
        ValueError: a shape that does not fit.
    """
    alone = _check_inputs(layer, inputs)
    first = _first_weight(layer)
    if torch.is_autocast_enabled(inputs.device.type):
        inputs = inputs.to(first.dtype)
    turned = layer.batch_first and not alone
    sequence = inputs[:, None] if alone else inputs.transpose(0, 1) if turned else inputs
    steps, batch = sequence.shape[:2]
    states = [_check_state(layer, state, batch, alone, inputs) for state in (hidden, cell)]
    # Turned into [features, steps x batch] at once: the products need it so.
    flat = sequence.permute(2, 0, 1).reshape(sequence.shape[2], steps * batch).t() if turned else sequence.flatten(0, 1)
    flat, hidden, last_cell = _through(layer, kind, flat, states[0], states[1] if kind == "lstm" else None)
    outputs = flat.view(steps, batch, flat.shape[1])
    outputs = outputs[:, 0] if alone else outputs.transpose(0, 1) if turned else outputs
    if alone:
        hidden, last_cell = hidden[:, 0], None if last_cell is None else last_cell[:, 0]
    return outputs, hidden, last_cell


def _through(
    layer: Layer, kind: gates.Kind, flat: Tensor, hidden: Tensor, cell: Tensor | None
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
            output, last_hidden, last_cell = _unroll(setting, input_, hidden_, flat, hidden[place], first_cell)
            outputs.append(output)
            last.append((last_hidden, last_cell))
        flat = outputs[0] if ways == 1 else torch.cat([output.t() for output in outputs]).t()
    cells = [state for _, state in last if state is not None]
    return flat, torch.stack([state for state, _ in last]), torch.stack(cells) if cells else None


def _unroll(
    setting: unroll.Setting, input_: nn.Module, hidden_: nn.Module, flat: Tensor, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    projected: Tensor = input_(flat)
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
    if isinstance(inputs, PackedSequence):
        raise TypeError(
            "a packed sequence was given; a sparse recurrent layer takes padded tensors: pad with pad_packed_sequence "
            "and leave out what lies beyond each length in the loss"
        )
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
    if torch.is_autocast_enabled(inputs.device.type):
        state = state.to(inputs.dtype)
    if state.dtype != inputs.dtype:
        raise ValueError(f"a first state is {state.dtype} but the input {inputs.dtype}; convert one")
    return state[:, None] if alone else state
