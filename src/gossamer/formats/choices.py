"""The storages that there are, by name: a row for each."""

from collections.abc import Callable, Mapping

from torch import nn

from gossamer.formats import block, compact, constant_fan_in, csr, dense

# What a storage does: it makes a module that computes what the truly sparse layer computes, or says None.
Hold = Callable[[nn.Module], nn.Module | None]

# What holds every kind of layer, and what holds linear ones.
ANY: Mapping[str, Hold] = {"dense": dense.hold, "csr": csr.hold}
LINEAR: Mapping[str, Hold] = {
    **ANY,
    "block": block.hold,
    "constant_fan_in": constant_fan_in.hold,
    "compact": compact.hold,
}
