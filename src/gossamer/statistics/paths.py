"""Which of the weights that exist lead from the inputs to the outputs; the others are dead."""

from collections.abc import Mapping

from torch import Tensor, nn

from gossamer.statistics.flow import Flow, NoFlowError


def on_a_path(model: nn.Module, weights: Mapping[str, Tensor], *, example: Tensor) -> dict[str, int]:
    """Count, for each weight, the active entries that lie on a path from an input to an output.

    A layer that is not empty can still be dead: what it computes reaches no output, or no input reaches it. The paths
    are found by the synaptic flow: where its derivative is positive, something flows. An activation that makes
    something of nothing, such as a sigmoid, starts paths of its own.

    Args:
        model: masked or with zeros; left as it is.
        weights: parameters of the model by name.
        example: one input, or a batch of them, shape [samples, ...]; only its shape counts.

    Returns:
        Name -> count, from 0 to the number of entries that are not zero.

    Raises:
        ValueError: as `Flow`.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> model[0].weight.data = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
        >>> model[1].weight.data = torch.tensor([[1.0, 0.0]])
        >>> on_a_path(model, {"0": model[0].weight, "1": model[1].weight}, example=torch.zeros(1, 2))
        {'0': 2, '1': 1}
    """
    try:
        _, gradients = Flow(model, weights, example=example).measure()
    except NoFlowError:
        return dict.fromkeys(weights, 0)
    return {name: int(((gradients[name] > 0) & (weight.detach() != 0)).sum()) for name, weight in weights.items()}
