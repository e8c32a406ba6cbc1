"""The fastest storage of each layer, by measurement on the machine at hand."""

from gossamer.acceleration.accelerate import accelerate
from gossamer.acceleration.kinds import KINDS, Kind
from gossamer.acceleration.table import Accelerated, LayerTimes

__all__ = ["KINDS", "Accelerated", "Kind", "LayerTimes", "accelerate"]
