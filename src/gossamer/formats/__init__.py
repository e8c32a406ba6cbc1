"""How a linear weight can be held for inference: one file a storage, each with a function that holds a layer."""

from gossamer.formats.block import BlockLinear
from gossamer.formats.choices import ANY, LINEAR, Hold
from gossamer.formats.compact import CompactLinear
from gossamer.formats.constant_fan_in import FanInLinear
from gossamer.formats.portable import portable
from gossamer.formats.size import held_bytes

__all__ = ["ANY", "LINEAR", "BlockLinear", "CompactLinear", "FanInLinear", "Hold", "held_bytes", "portable"]
