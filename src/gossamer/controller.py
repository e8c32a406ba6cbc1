"""A controller that steers the strength of a penalty to an asked sparsity."""

import math
import sys
from collections.abc import Mapping
from typing import final

from gossamer import counts


@final
class Controller:
    """Raise the strength of a penalty while there are too few zeros, lower it while there are too many.

    strength <- strength * exp(gain * (sparsity - sparsity_now))

    The strength is the multiplier of the constraint that the sparsity be reached, and each update a step uphill in its
    logarithm: from any start it comes within reach in a number of updates that grows with the logarithm alone. Update
    rarely enough for the weights to follow: once in many optimizer steps.

    Args:
        sparsity: the fraction of zeros asked for, in [0, 1).
        strength: the first value, > 0 and finite.
        gain: how much an update changes the logarithm of the strength where all zeros are missing, > 0 and finite.

    Attributes:
        strength: what to multiply the penalty by, or the learning rate in the threshold of a proximal step; > 0.

    Raises:
        ValueError: an argument lies outside its range.

    Example:
        >>> controller = Controller(sparsity=0.9, strength=1e-3, gain=2.0)
        >>> round(controller.update(0.4), 6)
        0.002718
        >>> controller.update(0.9) == controller.strength
        True

    Source:
        Gallego-Posada, Ramirez, Erraqabi, Bengio, Lacoste-Julien. Controlled Sparsity via Constrained Optimization or:
        How I Learned to Stop Tuning Penalties and Love Constraints. NeurIPS 2022, arXiv:2208.04425.
        Differs: the step is multiplicative, as in Kivinen and Warmuth, Exponentiated Gradient versus Gradient Descent
        for Linear Predictors, 1997, so that it suits strengths of any size; it also lowers the strength where there are
        too many zeros, where the paper sets it to 0.
    """

    def __init__(self, *, sparsity: float, strength: float, gain: float = 1.0) -> None:
        self._sparsity = counts.check_sparsity(sparsity)
        self._gain = _check_above_zero(gain, name="gain")
        self.strength = _check_above_zero(strength, name="strength")

    def update(self, sparsity_now: float) -> float:
        """Change the strength by what was measured, and return it.

        Args:
            sparsity_now: fraction of zeros that there are, in [0, 1].

        Raises:
            ValueError: it lies outside [0, 1].
            RuntimeError: the strength would leave the range of floats: the penalty does not move the sparsity.
        """
        counts.check_fraction(sparsity_now, name="sparsity_now")
        change = self._gain * (self._sparsity - sparsity_now)
        logarithm = math.log(self.strength) + change
        if not math.log(sys.float_info.min) < logarithm < math.log(sys.float_info.max):
            raise RuntimeError(
                f"strength {self.strength} has no effect: sparsity is {sparsity_now}, asked for is {self._sparsity}; "
                "check that the penalty reaches the weights that are counted"
            )
        # As a product, an error of 0 changes no bit.
        self.strength *= math.exp(change)
        return self.strength

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed training needs: the strength."""
        return {"strength": self.strength}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from the state of another controller.

        Args:
            state: what `state_dict` returned.

        Raises:
            ValueError: it holds something else, or the strength is not above 0 and finite.
        """
        if set(state) != {"strength"}:
            raise ValueError(f"a controller's state holds strength alone, got {', '.join(state) or 'nothing'}")
        self.strength = _check_above_zero(state["strength"], name="strength")


def _check_above_zero(value: float, *, name: str) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}; updates multiply, so 0 would stay 0")
    return float(value)
