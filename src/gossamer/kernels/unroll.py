"""A sparse recurrent layer over all its steps: one autograd function around the kernels of single steps.

Shapes: H = hidden features, O = G H gates, B = batch, S = steps x batch, K = active weights.

The gradient of the weight is one product over all steps, and the one through time is fused with the gates' derivative:
step by step in autograd each would be a walk of the weight for every step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gossamer.kernels import cpu, eager, gates, recurrent, recurrent_backward
from gossamer.kernels.operands import Index, check

_PLAIN = (Tensor, nn.Parameter)
_NUMBER: dict[gates.Kind, int] = {
    "rnn_tanh": recurrent.RNN_TANH,
    "rnn_relu": recurrent.RNN_RELU,
    "gru": recurrent.GRU,
    "lstm": recurrent.LSTM,
}


class Setting(NamedTuple):
    """What a layer is, beside its tensors.

    Attributes:
        kind: which equations.
        reverse: whether it goes from the last step to the first.
    """

    kind: gates.Kind
    reverse: bool


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether `unroll` can take these: on the CPU, float32 or float64, with nothing that looks on."""
    return eager.is_plain(*(part for part in tensors if part is not None)) and not (
        torch._C._are_functorch_transforms_active()
    )


def unroll(
    setting: Setting,
    projected_SO: Tensor,
    values: Tensor,
    bias: Tensor | None,
    states: tuple[Tensor, Tensor | None],
    index: Index,
    watch: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a recurrent layer through all its steps; see `gates.unroll`, which has the same results.

    Args:
        setting: kind and direction.
        projected_SO: what the inputs give, shape [S, O], feature-major, S >= 1.
        values: the active recurrent weights, shape [K].
        bias: of the recurrent product, shape [O], or None.
        states: first hidden state and, for "lstm", cell state, shapes [B, H], B >= 1.
        index: topology of the recurrent weight.
        watch: the layer that the recurrent weight belongs to, if something looks at its calls: it is called once with
            what the weight was multiplied with in all steps, [S, H], and its result [S, O] takes the gradient.

    Returns:
        Hidden states of all steps, shape [S, H], strides (1, S); last hidden and cell state, shapes [B, H].

    Raises:
        ValueError: dtypes differ, or a shape does not fit the topology.

    Cost: the products of each step; kept for the backward pass: 7 H numbers a step and sample for "lstm", 6 H for
    "gru", 2 H for the others, and the projection. `watch` costs one more product.
    """
    hidden, cell = states
    check(hidden.t(), values, bias, index)
    ready = _compute(setting, projected_SO, values, bias, hidden, cell, index, keep=torch.is_grad_enabled())
    watched_SO = None if watch is None else watch(_before(setting, ready, hidden))
    outputs: tuple[Tensor, ...] = _Unroll.apply(  # type: ignore[no-untyped-call]
        setting, ready, projected_SO, values, bias, hidden, cell, watched_SO, *index
    )
    return outputs[0], outputs[1], outputs[2] if cell is not None else None


class _Ready(NamedTuple):
    """What a forward pass wrote and the backward pass reads.

    Attributes:
        y: hidden states of all steps, shape [S, H], strides (1, S).
        h: hidden states in the order of time, the first one first, shape [T + 1, H, B].
        c: cell states, likewise; for "lstm".
        kept: gates, shape [T, 4 H, B].
    """

    y: Tensor
    h: Tensor
    c: Tensor
    kept: Tensor


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        setting: Setting,
        ready: _Ready,
        projected_SO: Tensor,
        values: Tensor,
        bias: Tensor | None,
        hidden_BH: Tensor,
        cell_BH: Tensor | None,
        watched_SO: Tensor | None,
        *index: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.setting, ctx.watched = setting, watched_SO is not None
        ctx.save_for_backward(projected_SO, values, bias, hidden_BH, cell_BH, *ready, *index)
        ctx.set_materialize_grads(False)
        results = (ready.y, ready.h[-1].t().clone())
        return results if cell_BH is None else (*results, ready.c[-1].t().clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        projected_SO, values, bias, hidden_BH, cell_BH, *rest = ctx.saved_tensors
        ready, index = _Ready(*rest[:4]), tuple(rest[4:])
        if all(grad is None for grad in grads):
            return (None,) * 13
        # Between forward and backward the values may have been exchanged for others, which no version counter shows.
        check(hidden_BH.t(), values, None, index)
        if torch.is_grad_enabled():
            return _again(ctx, (projected_SO, values, bias, hidden_BH, cell_BH), grads, index)
        return _backward(ctx, values, hidden_BH, ready, index, grads)


@torch.no_grad()
def _compute(
    setting: Setting,
    projected_SO: Tensor,
    values: Tensor,
    bias: Tensor | None,
    hidden_BH: Tensor,
    cell_BH: Tensor | None,
    index: Index,
    *,
    keep: bool,
) -> _Ready:
    projected_OS = projected_SO.t().contiguous()
    batch, units = hidden_BH.shape
    total = projected_OS.shape[1]
    h_THB = _states(hidden_BH, total // batch)
    c_THB = values.new_empty(0, units, batch) if cell_BH is None else _states(cell_BH, total // batch)
    # Without a backward pass all steps write their gates to the same place.
    room = values.new_empty(total // batch if keep else 1, recurrent.KEPT[_NUMBER[setting.kind]] * units, batch)
    kept_TOB = room.expand(total // batch, -1, -1)
    y_SH = values.new_empty_strided((total, units), (1, total))
    ready = _Ready(y_SH, h_THB, c_THB, kept_TOB)
    bias_O = values.new_zeros(projected_OS.shape[0]) if bias is None else bias.contiguous()
    _forward(setting, projected_OS, values.contiguous(), bias_O, index, ready)
    return ready


def _states(first_BH: Tensor, steps: int) -> Tensor:
    states_THB = first_BH.new_empty(steps + 1, *first_BH.shape[::-1])
    states_THB[0] = first_BH.t()
    return states_THB


@torch.no_grad()
def _before(setting: Setting, ready: _Ready, hidden_BH: Tensor) -> Tensor:
    """The hidden state that each step began with, shape [S, H], strides (1, S)."""
    y_HS, first_HB = ready.y.t(), hidden_BH.t()
    batch = first_HB.shape[1]
    parts = [y_HS[:, batch:], first_HB] if setting.reverse else [first_HB, y_HS[:, :-batch]]
    return torch.cat(parts, 1).t()


def _forward(setting: Setting, projected_OS: Tensor, values: Tensor, bias: Tensor, index: Index, ready: _Ready) -> None:
    steps, (units, batch) = ready.h.shape[0] - 1, ready.h.shape[1:]
    fixed = tuple(part.data_ptr() for part in (index[0], index[1], values, bias, projected_OS))
    h, c, kept = (_places(part) for part in ready[1:])
    for step in range(steps):
        time = steps - 1 - step if setting.reverse else step
        addresses = (*fixed, h(step), h(step + 1), ready.y.data_ptr(), kept(step), c(step), c(step + 1))
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
    ready: _Ready,
    index: tuple[Tensor, ...],
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    total, units = ready.y.shape
    batch = hidden_BH.shape[0]
    rows = index[0].numel() - 1
    grad_HS = values.new_zeros(units, total) if grads[0] is None else grads[0].t().contiguous()
    carries = [_carry(grad, hidden_BH) for grad in (*grads[1:], None)[:2]]
    # Turns: a step reads what the later one wrote.
    turns = values.new_empty(2, rows, batch)
    g_OS = values.new_empty(rows, total)
    inner_OS = torch.empty_like(g_OS) if ctx.setting.kind == "gru" else g_OS
    by_columns = values.detach()[index[4]]
    _steps_back(ctx.setting, by_columns, index, ready, grad_HS, carries, turns, (g_OS, inner_OS))
    steps = ready.h.shape[0] - 1
    first_OB = turns[(steps - 1) % 2]
    needs = ctx.needs_input_grad
    grad_values = grad_bias = grad_hidden = grad_watched = None
    if needs[3] and not ctx.watched:
        grad_values = _grad_values(index, inner_OS, ready.y.t(), first_OB, ready.h[0], ctx.setting.reverse)
    if needs[4] and not ctx.watched:
        grad_bias = inner_OS.sum(1)
    if needs[5]:
        through = torch.empty_like(carries[0])
        cpu.multiply(index[2], index[3], by_columns, values.new_zeros(units), first_OB, through)
        grad_hidden = (carries[0] + through).t()
    if needs[7]:
        grad_watched = inner_OS.t()
    grad_cell = carries[1].t() if needs[6] else None
    return None, None, g_OS.t(), grad_values, grad_bias, grad_hidden, grad_cell, grad_watched, *(None,) * 5


def _carry(grad: Tensor | None, hidden_BH: Tensor) -> Tensor:
    carry_HB = hidden_BH.new_empty(hidden_BH.shape[::-1])
    return carry_HB.zero_() if grad is None else carry_HB.copy_(grad.t())


def _steps_back(
    setting: Setting,
    by_columns: Tensor,
    index: tuple[Tensor, ...],
    ready: _Ready,
    grad_HS: Tensor,
    carries: list[Tensor],
    turns: Tensor,
    results: tuple[Tensor, Tensor],
) -> None:
    steps, (units, batch) = ready.h.shape[0] - 1, ready.h.shape[1:]
    fixed = tuple(part.data_ptr() for part in (index[2], index[3], by_columns))
    (h, c, kept), turn = (_places(part) for part in ready[1:]), _places(turns)
    needed = {"lstm": lambda step: c(step + 1), "gru": h}.get(setting.kind, lambda step: h(step + 1))
    for done, step in enumerate(reversed(range(steps))):
        time = steps - 1 - step if setting.reverse else step
        addresses = (
            *(*fixed, turn((done + 1) % 2), grad_HS.data_ptr(), needed(step), carries[0].data_ptr()),
            *(turn(done % 2), results[0].data_ptr(), kept(step), results[1].data_ptr(), c(step)),
            carries[1].data_ptr(),
        )
        sizes = (units, by_columns.numel(), batch, steps * batch, time * batch, int(done == 0))
        recurrent_backward.backward_step(_NUMBER[setting.kind], by_columns, index[0].dtype, addresses, sizes)


def _grad_values(
    index: tuple[Tensor, ...], g_OS: Tensor, y_HS: Tensor, first_OB: Tensor, h_HB: Tensor, reverse: bool
) -> Tensor:
    batch = h_HB.shape[1]
    grad_values = g_OS.new_empty(index[1].numel())
    cpu.sample(index[0], index[1], first_OB, h_HB, grad_values)
    if g_OS.shape[1] > batch:
        grad_values += recurrent_backward.sample(index[0], index[1], g_OS, y_HS, -batch if reverse else batch)
    return grad_values


def _again(
    ctx: Any, inputs: tuple[Tensor | None, ...], grads: Any, index: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients as a graph, which can be differentiated again: step by step through plain PyTorch."""
    if ctx.watched:
        raise RuntimeError(
            "second derivatives of a recurrent layer whose recurrent weight has hooks are not kept; remove the hooks, "
            "detach the sparsifier, or take first derivatives only"
        )
    setting = ctx.setting
    with torch.enable_grad():
        # Aliases: of a state that itself depends on the weight, the way there is not ours.
        inputs = tuple(None if part is None else part.view_as(part) for part in inputs)
        projected, values, bias, hidden, cell = inputs
        assert projected is not None and values is not None and hidden is not None  # noqa: S101, PT018
        outputs = gates.unroll(
            setting.kind,
            projected,
            lambda h: eager.linear(h, values, bias, index),  # type: ignore[arg-type]
            hidden,
            cell,
            reverse=setting.reverse,
        )
        pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=False) if out is not None and grad is not None]
        places = [place for place, part in enumerate(inputs) if part is not None and ctx.needs_input_grad[place + 2]]
        found = torch.autograd.grad(
            [out for out, _ in pairs],
            [part for place, part in enumerate(inputs) if place in places and part is not None],
            [grad for _, grad in pairs],
            create_graph=True,
            allow_unused=True,
        )
    by_place = dict(zip(places, found, strict=True))
    return None, None, *(by_place.get(place) for place in range(5)), *(None,) * 6
