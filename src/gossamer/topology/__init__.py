"""Which entries of a weight exist: CSR and its transpose, in memory that follows the active entries alone."""

from gossamer.topology.csr import (
    Topology,
    Transpose,
    check_topology,
    erdos_renyi,
    exchange,
    fingerprint,
    from_linear,
    from_mask,
    gather,
    index_dtype,
    linear_indices,
    row_indices,
    slots_of,
    to_mask,
    transpose,
)

__all__ = [
    "Topology",
    "Transpose",
    "check_topology",
    "erdos_renyi",
    "exchange",
    "fingerprint",
    "from_linear",
    "from_mask",
    "gather",
    "index_dtype",
    "linear_indices",
    "row_indices",
    "slots_of",
    "to_mask",
    "transpose",
]
