"""How a linear weight can be held for inference: one file a storage, each with a function that holds a layer."""

from gossamer.formats.bfloat16 import Bfloat16Linear
from gossamer.formats.block import BlockLinear
from gossamer.formats.choices import ANY, LINEAR, ROUNDED, Hold
from gossamer.formats.compact import CompactLinear
from gossamer.formats.constant_fan_in import FanInLinear
from gossamer.formats.int8 import Int8Linear
from gossamer.formats.lean_csr import LeanCsrLinear
from gossamer.formats.portable import portable
from gossamer.formats.size import held_bytes

__all__ = [
    "ANY",
    "LINEAR",
    "ROUNDED",
    "Bfloat16Linear",
    "BlockLinear",
    "CompactLinear",
    "FanInLinear",
    "Hold",
    "Int8Linear",
    "LeanCsrLinear",
    "held_bytes",
    "portable",
]
