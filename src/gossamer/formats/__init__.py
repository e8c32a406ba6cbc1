"""How a linear weight can be held for inference: one file a storage, each with a function that holds a layer."""

from collections.abc import Callable, Mapping

from torch import nn

from gossamer.formats.block import BlockLinear
from gossamer.formats.block import hold as _block
from gossamer.formats.constant_fan_in import FanInLinear
from gossamer.formats.constant_fan_in import hold as _constant_fan_in
from gossamer.formats.csr import hold as _csr
from gossamer.formats.dense import hold as _dense
from gossamer.formats.portable import portable
from gossamer.formats.size import held_bytes

# What a storage does: it makes a module that computes what the truly sparse layer computes, or says None.
Hold = Callable[[nn.Module], nn.Module | None]

# What holds every kind of layer, and what holds linear ones.
ANY: Mapping[str, Hold] = {"dense": _dense, "csr": _csr}
LINEAR: Mapping[str, Hold] = {**ANY, "block": _block, "constant_fan_in": _constant_fan_in}

__all__ = ["ANY", "LINEAR", "BlockLinear", "FanInLinear", "Hold", "held_bytes", "portable"]
