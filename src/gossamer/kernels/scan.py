"""A sparse recurrent layer over all its steps: one autograd function around the kernels of single steps.

Shapes: H = hidden features, O = G H gates, B = batch, S = steps x batch, K = active weights.

The gradient of the weight is one product over all steps, and the one through time is fused with the gates' derivative:
step by step in autograd each would be a walk of the weight for every step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gossamer.kernels import cpu, eager, gates, ops, recurrent

_PLAIN = (Tensor, nn.Parameter)
_NUMBER: dict[gates.Kind, int] = {
    "rnn_tanh": recurrent.RNN_TANH,
    "rnn_relu": recurrent.RNN_RELU,
    "gru": recurrent.GRU,
    "lstm": recurrent.LSTM,
}


class Setting(NamedTuple):
    """What a scan is, beside its tensors.

    Attributes:
        kind: which equations.
        reverse: whether it goes from the last step to the first.
    """

    kind: gates.Kind
    reverse: bool


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether `scan` can take these: on the CPU, float32 or float64, with nothing that looks on.

    Args:
        tensors: those of a call; None is passed over.
    """
    return eager._is_plain(*(part for part in tensors if part is not None)) and not (
        torch._C._are_functorch_transforms_active()
    )


def scan(
    setting: Setting,
    projected_SO: Tensor,
    values: Tensor,
    bias: Tensor | None,
    states: tuple[Tensor, Tensor | None],
    index: ops.Index,
    watched_SO: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a recurrent layer through all its steps; see `gates.scan`, which has the same results.

    Args:
        setting: kind and direction.
        projected_SO: what the inputs give, shape [S, O], feature-major, S >= 1.
        values: the active recurrent weights, shape [K].
        bias: of the recurrent product, shape [O], or None.
        states: first hidden state and, for "lstm", cell state, shapes [B, H], B >= 1.
        index: topology of the recurrent weight.
        watched_SO: the recurrent product of all steps, made by a layer that something looks at; it takes the gradient
            of values and bias in their stead.

    Returns:
        Hidden states of all steps, shape [S, H], strides (1, S); last hidden and cell state, shapes [B, H].

    Cost: the products of each step; kept for the backward pass: 6 H numbers a step and sample for "lstm", 5 H for
    "gru", 1 H for the others, and the projection.
    """
    hidden, cell = states
    outputs: tuple[Tensor, ...] = _Scan.apply(  # type: ignore[no-untyped-call]
        setting, projected_SO, values, bias, hidden, cell, watched_SO, *index
    )
    return outputs[0], outputs[1], outputs[2] if cell is not None else None


class _Room(NamedTuple):
    """What a forward pass writes and the backward pass reads."""

    h_THB: Tensor
    c_THB: Tensor
    kept_TOB: Tensor


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        setting: Setting,
        projected_SO: Tensor,
        values: Tensor,
        bias: Tensor | None,
        hidden_BH: Tensor,
        cell_BH: Tensor | None,
        watched_SO: Tensor | None,
        *index: Tensor,
    ) -> tuple[Tensor, ...]:
        projected_OS = projected_SO.t().contiguous()
        room = _make_room(setting, projected_OS, hidden_BH, cell_BH)
        bias_O = values.new_zeros(projected_OS.shape[0]) if bias is None else bias.contiguous()
        total = projected_OS.shape[1]
        y_SH = torch.empty_strided((total, hidden_BH.shape[1]), (1, total), dtype=values.dtype)
        _forward(setting, projected_OS, values.contiguous(), bias_O, index, room, y_SH)
        ctx.setting, ctx.watched = setting, watched_SO is not None
        ctx.save_for_backward(projected_SO, values, bias, hidden_BH, cell_BH, y_SH, *room, *index)
        ctx.set_materialize_grads(False)
        last = -1  # in the order of the scan
        results = (y_SH, room.h_THB[last].t().clone())
        return results if cell_BH is None else (*results, room.c_THB[last].t().clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        projected_SO, values, bias, hidden_BH, cell_BH, y_SH, *rest = ctx.saved_tensors
        room, index = _Room(*rest[:3]), tuple(rest[3:])
        if all(grad is None for grad in grads):
            return (None,) * 12
        if torch.is_grad_enabled():
            return _again(ctx, (projected_SO, values, bias, hidden_BH, cell_BH), grads, index)
        if values.shape != index[1].shape:
            ops.check(hidden_BH.t(), values, None, index)  # values exchanged since the forward pass: raises
        return _backward(ctx, values, hidden_BH, cell_BH, y_SH, room, index, grads)


def _make_room(setting: Setting, projected_OS: Tensor, hidden_BH: Tensor, cell_BH: Tensor | None) -> _Room:
    batch, units = hidden_BH.shape
    steps = projected_OS.shape[1] // batch
    h_THB = projected_OS.new_empty(steps + 1, units, batch)
    h_THB[0] = hidden_BH.t()
    kept = recurrent.KEPT[_NUMBER[setting.kind]]
    kept_TOB = projected_OS.new_empty(steps, kept * units, batch)
    c_THB = projected_OS.new_empty((steps + 1) if cell_BH is not None else 0, units, batch)
    if cell_BH is not None:
        c_THB[0] = cell_BH.t()
    return _Room(h_THB, c_THB, kept_TOB)


def _forward(
    setting: Setting, projected_OS: Tensor, values: Tensor, bias: Tensor, index: Any, room: _Room, y_SH: Tensor
) -> None:
    steps, (units, batch) = room.h_THB.shape[0] - 1, room.h_THB.shape[1:]
    fixed = tuple(part.data_ptr() for part in (index[0], index[1], values, bias, projected_OS))
    h, c, kept = (_places(part) for part in room)
    for step in range(steps):
        time = steps - 1 - step if setting.reverse else step
        addresses = (*fixed, h(step), h(step + 1), y_SH.data_ptr(), kept(step), c(step), c(step + 1))
        sizes = (units, values.numel(), batch, steps * batch, time * batch)
        recurrent.forward_step(_NUMBER[setting.kind], values, index[0].dtype, addresses, sizes)


def _places(tensor: Tensor) -> Any:
    """The address of each part along the first axis."""
    start, stride = tensor.data_ptr(), tensor.stride(0) * tensor.element_size()
    return lambda part: start + part * stride


def _backward(
    ctx: Any,
    values: Tensor,
    hidden_BH: Tensor,
    cell_BH: Tensor | None,
    y_SH: Tensor,
    room: _Room,
    index: Any,
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    total, units = y_SH.shape
    batch = hidden_BH.shape[0]
    rows = index[0].numel() - 1
    grad_HS = values.new_zeros(units, total) if grads[0] is None else grads[0].t().contiguous()
    carries = [_carry(grad, hidden_BH) for grad in (*grads[1:], None)[:2]]
    # Turns: a step reads what the later one wrote.
    turns = values.new_empty(2, rows, batch)
    g_OS = values.new_empty(rows, total)
    inner_OS = torch.empty_like(g_OS) if ctx.setting.kind == "gru" else g_OS
    by_columns = values.detach()[index[4]]
    _steps_back(ctx.setting, by_columns, index, room, grad_HS, carries, turns, (g_OS, inner_OS))
    steps = room.h_THB.shape[0] - 1
    first_OB = turns[(steps - 1) % 2]
    needs = ctx.needs_input_grad
    grad_values = grad_bias = grad_hidden = grad_watched = None
    if needs[2] and not ctx.watched:
        grad_values = _grad_values(index, inner_OS, y_SH.t(), first_OB, room.h_THB[0], ctx.setting.reverse)
    if needs[3] and not ctx.watched:
        grad_bias = inner_OS.sum(1)
    if needs[4]:
        through = torch.empty_like(carries[0])
        cpu.multiply(index[2], index[3], by_columns, values.new_zeros(units), first_OB, through)
        grad_hidden = (carries[0] + through).t()
    if needs[6]:
        grad_watched = inner_OS.t()
    grad_cell = carries[1].t() if cell_BH is not None and needs[5] else None
    return None, g_OS.t(), grad_values, grad_bias, grad_hidden, grad_cell, grad_watched, *(None,) * 5


def _carry(grad: Tensor | None, hidden_BH: Tensor) -> Tensor:
    carry_HB = hidden_BH.new_empty(hidden_BH.shape[::-1])
    return carry_HB.zero_() if grad is None else carry_HB.copy_(grad.t())


def _steps_back(
    setting: Setting,
    by_columns: Tensor,
    index: Any,
    room: _Room,
    grad_HS: Tensor,
    carries: list[Tensor],
    turns: Tensor,
    results: tuple[Tensor, Tensor],
) -> None:
    steps, (units, batch) = room.h_THB.shape[0] - 1, room.h_THB.shape[1:]
    fixed = tuple(part.data_ptr() for part in (index[2], index[3], by_columns))
    (h, c, kept), turn = (_places(part) for part in room), _places(turns)
    needed = {"lstm": lambda step: c(step + 1), "gru": h}.get(setting.kind, lambda step: h(step + 1))
    for done, step in enumerate(reversed(range(steps))):
        time = steps - 1 - step if setting.reverse else step
        addresses = (
            *(*fixed, turn((done + 1) % 2), grad_HS.data_ptr(), needed(step), carries[0].data_ptr()),
            *(turn(done % 2), results[0].data_ptr(), kept(step), results[1].data_ptr(), c(step)),
            carries[1].data_ptr(),
        )
        sizes = (units, by_columns.numel(), batch, steps * batch, time * batch, int(done == 0))
        recurrent.backward_step(_NUMBER[setting.kind], by_columns, index[0].dtype, addresses, sizes)


def _grad_values(index: Any, g_OS: Tensor, y_HS: Tensor, first_OB: Tensor, h_HB: Tensor, reverse: bool) -> Tensor:
    batch = h_HB.shape[1]
    grad_values = g_OS.new_empty(index[1].numel())
    cpu.sample(index[0], index[1], first_OB, h_HB, grad_values)
    if g_OS.shape[1] > batch:
        grad_values += recurrent.sample(index[0], index[1], g_OS, y_HS, -batch if reverse else batch)
    return grad_values


def _again(ctx: Any, inputs: tuple[Tensor | None, ...], grads: Any, index: Any) -> tuple[Tensor | None, ...]:
    """The gradients as a graph, which can be differentiated again: step by step through plain PyTorch."""
    if ctx.watched:
        raise RuntimeError(
            "second derivatives of a recurrent layer whose recurrent weight has hooks are not kept; remove the hooks, "
            "detach the sparsifier, or take first derivatives only"
        )
    projected, values, bias, hidden, cell = inputs
    assert projected is not None and values is not None and hidden is not None  # noqa: S101, PT018
    setting = ctx.setting
    with torch.enable_grad():
        outputs = gates.scan(
            setting.kind,
            projected,
            lambda h: eager.linear(h, values, bias, index),
            hidden,
            cell,
            reverse=setting.reverse,
        )
        pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=False) if out is not None and grad is not None]
        places = [place for place, part in enumerate(inputs) if part is not None and ctx.needs_input_grad[place + 1]]
        found = torch.autograd.grad(
            [out for out, _ in pairs],
            [inputs[place] for place in places],  # type: ignore[misc]
            [grad for _, grad in pairs],
            create_graph=True,
            allow_unused=True,
        )
    by_place = dict(zip(places, found, strict=True))
    return None, *(by_place.get(place) for place in range(5)), *(None,) * 6
