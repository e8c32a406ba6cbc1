"""The storages that there are, by name: a row for each."""

from collections.abc import Callable, Mapping

from torch import nn

from gossamer.formats import bfloat16, block, compact, constant_fan_in, csr, dense, int8, lean_csr

# What a storage does: it makes a module that computes what the truly sparse layer computes, or says None.
Hold = Callable[[nn.Module], nn.Module | None]

# What holds every kind of layer, what holds linear ones, and what holds those if the weight may be rounded.
ANY: Mapping[str, Hold] = {"dense": dense.hold, "csr": csr.hold}
LINEAR: Mapping[str, Hold] = {
    **ANY,
    "lean_csr": lean_csr.hold,
    "block": block.hold,
    "constant_fan_in": constant_fan_in.hold,
    "compact": compact.hold,
}
ROUNDED: Mapping[str, Hold] = {"bfloat16": bfloat16.hold, "int8": int8.hold}
