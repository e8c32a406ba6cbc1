"""What criteria need to know of a model and its data, measured on a model that is left exactly as it was."""

from gossamer.statistics.batch_norm import has_running_statistics, reestimate_
from gossamer.statistics.curvature import hessian_diagonal
from gossamer.statistics.flow import Flow, NoFlowError
from gossamer.statistics.gradients import (
    hessian_gradient,
    hessian_product,
    mean_gradient,
    output_sensitivity,
    sample_gradients,
    squared_gradient,
)
from gossamer.statistics.heads import head_gates
from gossamer.statistics.inputs import Moments, input_moments
from gossamer.statistics.loss import mean_loss
from gossamer.statistics.paths import on_a_path
from gossamer.statistics.readers import norm_scales, outgoing_weights
from gossamer.statistics.units import UnitMoments, unit_gates, unit_moments
from gossamer.statistics.untouched import untouched

__all__ = [
    "Flow",
    "Moments",
    "NoFlowError",
    "UnitMoments",
    "has_running_statistics",
    "head_gates",
    "hessian_diagonal",
    "hessian_gradient",
    "hessian_product",
    "input_moments",
    "mean_gradient",
    "mean_loss",
    "norm_scales",
    "on_a_path",
    "outgoing_weights",
    "output_sensitivity",
    "reestimate_",
    "sample_gradients",
    "squared_gradient",
    "unit_gates",
    "unit_moments",
    "untouched",
]
