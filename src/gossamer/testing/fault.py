"""The error of a recipe that breaks a rule."""

from typing import Any

LONGEST = 120


class ConformanceError(AssertionError):
    """A recipe breaks a rule that every recipe keeps; the message says which, where and when.

    Args:
        trial: which recipe, in which storage, with which optimizer.
        rule: what should hold.
        expected: what the rule asks for.
        found: what there is.
        step: optimizer steps done; None: at no step in particular.
        weight: where in the model; None: nowhere in particular.

    Attributes:
        rule, expected, found, step, weight: as given.
    """

    def __init__(
        self, trial: str, rule: str, *, expected: Any, found: Any, step: int | None = None, weight: str | None = None
    ) -> None:
        places = [trial, *([] if step is None else [f"after step {step}"]), *([] if weight is None else [weight])]
        super().__init__(f"{', '.join(places)}: {rule}; expected {_short(expected)}, found {_short(found)}")
        self.rule, self.expected, self.found, self.step, self.weight = rule, expected, found, step, weight


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
