"""Rules that score weights or whole units: pure functions of tensors, larger = keep."""

from gossamer.criteria.activations import apoz, energy, mean_activation, output_variance
from gossamer.criteria.batch_norm_scale import batch_norm_scale
from gossamer.criteria.correlation import correlation
from gossamer.criteria.gates import head_gates, skeletonization
from gossamer.criteria.geometric_median import geometric_median
from gossamer.criteria.grasp import grasp
from gossamer.criteria.magnitude import magnitude
from gossamer.criteria.magnitude_increase import magnitude_increase
from gossamer.criteria.movement import movement
from gossamer.criteria.obd import fisher, obd
from gossamer.criteria.random import random
from gossamer.criteria.sensitivity import sensitivity
from gossamer.criteria.similarity import similarity
from gossamer.criteria.snip import snip
from gossamer.criteria.synflow import synflow
from gossamer.criteria.taylor import taylor, taylor_activation, taylor_filter
from gossamer.criteria.wanda import wanda
from gossamer.elementwise import elementwise

__all__ = [
    "apoz",
    "batch_norm_scale",
    "correlation",
    "elementwise",
    "energy",
    "fisher",
    "geometric_median",
    "grasp",
    "head_gates",
    "magnitude",
    "magnitude_increase",
    "mean_activation",
    "movement",
    "obd",
    "output_variance",
    "random",
    "sensitivity",
    "similarity",
    "skeletonization",
    "snip",
    "synflow",
    "taylor",
    "taylor_activation",
    "taylor_filter",
    "wanda",
]
