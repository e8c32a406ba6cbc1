"""One row for each criterion: it enrols the criterion in the contract tests."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gossamer import criteria


@dataclass(frozen=True, kw_only=True)
class Case:
    """A criterion and how it is called on a weight alone.

    Attributes:
        name: the criterion.
        score: weight of any shape -> scores; further inputs are made up from the weight.
        by_entry: whether the score of an entry depends on that entry alone.
    """

    name: str
    score: Callable[[Tensor], Tensor]
    by_entry: bool


CASES = [
    Case(name="magnitude", score=criteria.magnitude, by_entry=True),
]
