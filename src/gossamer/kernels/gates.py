"""The equations of recurrent layers in plain PyTorch: any device, dtype and transform; the oracle of the kernels.

Shapes: H = hidden features, G = gates, B = batch, S = steps x batch. `projected` is W_ih x + b_ih and `recurrent`
W_hh h + b_hh, gates one after another in torch's order.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["rnn_tanh", "rnn_relu", "gru", "lstm"]
GATES: dict[Kind, int] = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


def advance(
    kind: Kind, projected: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the states after one step.

    Args:
        kind: which equations.
        projected: what the input gives, shape [*, G H].
        recurrent: what the hidden state gives, shape [*, G H].
        hidden: hidden state before, shape [*, H].
        cell: cell state before, shape [*, H]; only for "lstm".

    Returns:
        Hidden and cell state after, shapes [*, H]; None for the cell state of other kinds.
    """
    if kind == "lstm":
        assert cell is not None  # noqa: S101
        enter, keep, new, leave = (projected + recurrent).chunk(4, -1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(leave) * torch.tanh(cell), cell
    if kind == "gru":
        size = hidden.shape[-1]
        both = torch.sigmoid(projected[..., : 2 * size] + recurrent[..., : 2 * size])
        reset, keep = both.chunk(2, -1)
        new = torch.tanh(projected[..., 2 * size :] + reset * recurrent[..., 2 * size :])
        return new + keep * (hidden - new), None
    activation = torch.tanh if kind == "rnn_tanh" else torch.relu
    return activation(projected + recurrent), None


def unroll(
    kind: Kind,
    projected_SO: Tensor,
    multiply: Callable[[Tensor], Tensor],
    hidden_BH: Tensor,
    cell_BH: Tensor | None,
    *,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run through all steps one by one.

    Args:
        kind: which equations.
        projected_SO: what the inputs of all steps give, shape [S, G H], step by step, S >= B.
        multiply: the recurrent product, [B, H] -> [B, G H].
        hidden_BH: first hidden state, shape [B, H].
        cell_BH: first cell state, shape [B, H], or None.
        reverse: whether to go from the last step to the first.

    Returns:
        Hidden states of all steps, shape [S, H]; last hidden and cell state, shapes [B, H].
    """
    batch = hidden_BH.shape[0]
    # How many steps an empty batch takes cannot be seen, and makes no difference.
    steps = projected_SO.shape[0] // batch if batch else 1
    outputs: list[Tensor] = []
    for step in reversed(range(steps)) if reverse else range(steps):
        projected = projected_SO[step * batch : (step + 1) * batch]
        hidden_BH, cell_BH = advance(kind, projected, multiply(hidden_BH), hidden_BH, cell_BH)
        outputs.append(hidden_BH)
    # Joined along the fast axis: the next product finds its input in place.
    joined = torch.cat([part.t() for part in (reversed(outputs) if reverse else outputs)], 1).t()
    return joined, hidden_BH, cell_BH
