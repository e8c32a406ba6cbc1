"""N:M: n of each m consecutive inputs are kept."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.pattern import Shape, as_matrix, check_asked, check_feasible
from gossamer.patterns.within import keep_in_rows


@dataclass(frozen=True, kw_only=True, repr=False)
class NM:
    """The pattern that `nm` returns.

    Attributes:
        n: entries kept of each m.
        m: consecutive entries of the input axis that compete.
    """

    n: int
    m: int

    def __repr__(self) -> str:
        return f"nm({self.n}, {self.m})"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the one count that masks of this pattern have, whatever is asked for."""
        self._check_inputs(shape)
        check_asked(self, shape, num_active)
        if not math.prod(shape):
            return 0
        inputs = shape[1]
        return math.prod(shape) // inputs * (inputs // self.m * self.n + self._num_last(inputs))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the n largest scores of each m, by place among equals."""
        check_feasible(self, scores, num_active)
        lines = scores.detach().movedim(1, -1)
        inputs = lines.shape[-1]
        whole = inputs // self.m * self.m
        first = _keep_in_stretches(lines[..., :whole], self.m, self.n)
        last = _keep_in_stretches(lines[..., whole:], inputs - whole, self._num_last(inputs))
        return torch.cat([first, last], -1).movedim(-1, 1).contiguous()

    def groups(self, shape: Shape) -> Tensor:
        """Number the entries: each comes and goes alone, in exchange for another of its m."""
        self._check_inputs(shape)
        return torch.arange(math.prod(shape)).reshape(shape)

    def _num_last(self, inputs: int) -> int:
        """How many of the last, short stretch stay: the same share, rounded up, which n places can always hold."""
        return -(-self.n * (inputs % self.m) // self.m)

    def _check_inputs(self, shape: Shape) -> None:
        as_matrix(self, shape)
        if math.prod(shape) > 0 and shape[1] < self.m:
            raise ValueError(
                f"{self} needs at least {self.m} inputs, a weight of shape {shape} has {shape[1]}; "
                "leave this layer out or choose a smaller m"
            )


def _keep_in_stretches(lines: Tensor, size: int, count: int) -> Tensor:
    """Mark the `count` largest of each `size` entries of the last axis."""
    if not lines.numel():
        return torch.zeros_like(lines, dtype=torch.bool)
    return keep_in_rows(lines.reshape(-1, size), count).view(lines.shape)


def nm(n: int, m: int) -> NM:
    """Keep n of each m consecutive entries of the input axis, in each output; 2:4 is what GPUs multiply fast.

    For convolutions, (out, in, kernel...), the m entries are consecutive input channels at one place of the kernel. The
    count follows from n and m. Where m does not divide the number of inputs, the last, short stretch of r entries keeps
    n r / m, rounded up: padded with zeros to m it still has at most n.

    Args:
        n: entries kept of each m, 1 <= n <= m.
        m: consecutive entries that compete, >= 1.

    Returns:
        A `Pattern`.

    Raises:
        ValueError: n is below 1 or above m.

    Example:
        >>> import torch
        >>> nm(2, 4).keep(torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 7.0, 7.0, 7.0]]), 4).int()
        tensor([[1, 0, 1, 0, 0, 1, 1, 0]], dtype=torch.int32)
        >>> nm(2, 4).nearest((10, 784), 0), nm(2, 4).nearest((10, 785), 0)
        (3920, 3930)

    Source:
        Mishra, Latorre, Pool, Stosic, Stosic, Venkatesh, Yu, Micikevicius. Accelerating Sparse Deep Neural Networks.
        2021, arXiv:2104.08378.
        Differs: a number of inputs that m does not divide is allowed.
    """
    if not 1 <= n <= m:
        raise ValueError(f"nm(n, m) keeps n of each m entries and needs 1 <= n <= m, got n={n} and m={m}; say nm(2, 4)")
    return NM(n=n, m=m)
