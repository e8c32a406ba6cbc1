"""Modules for torch's `register_parametrization` that learn which weights stay, one a file; `finish_` ends them."""

from gossamer.reparametrizations.continuous_sparsification import ContinuousSparsification
from gossamer.reparametrizations.finish import finish_
from gossamer.reparametrizations.hard_concrete import HardConcrete
from gossamer.reparametrizations.of_module import mask, penalty
from gossamer.reparametrizations.soft_threshold import SoftThreshold
from gossamer.reparametrizations.straight_through import StraightThrough
from gossamer.reparametrizations.straight_through_threshold import StraightThroughThreshold
from gossamer.reparametrizations.targeted_dropout import TargetedDropout
from gossamer.reparametrizations.variational_dropout import VariationalDropout

__all__ = [
    "ContinuousSparsification",
    "HardConcrete",
    "SoftThreshold",
    "StraightThrough",
    "StraightThroughThreshold",
    "TargetedDropout",
    "VariationalDropout",
    "finish_",
    "mask",
    "penalty",
]
