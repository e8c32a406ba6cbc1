"""Rules that choose which absent weights come to exist, one a file: linear indices out; and first values."""

from gossamer.growth.fan_in import fan_in_uniform, fan_in_uniform_of
from gossamer.growth.gradient import gradient
from gossamer.growth.guided import guided
from gossamer.growth.in_groups import gradient_in_groups
from gossamer.growth.momentum import momentum
from gossamer.growth.preferential_attachment import preferential_attachment
from gossamer.growth.random import random

__all__ = [
    "fan_in_uniform",
    "fan_in_uniform_of",
    "gradient",
    "gradient_in_groups",
    "guided",
    "momentum",
    "preferential_attachment",
    "random",
]
