"""Conformance: checks that any recipe can be put through, ours or a stranger's, with pytest or without."""

from gossamer.testing.agreement import check_storages
from gossamer.testing.failures import check_failures
from gossamer.testing.fault import ConformanceError
from gossamer.testing.letting_go import check_finalize
from gossamer.testing.moves import check_updates
from gossamer.testing.networks import CONVOLUTIONAL, LINEAR, Network
from gossamer.testing.optimizers import OPTIMIZERS, Foreign
from gossamer.testing.presence import check_counts, check_steps, check_zeros
from gossamer.testing.ranks import check_ranks
from gossamer.testing.reruns import check_resume, check_seed, check_skipped_steps
from gossamer.testing.suite import CHECKS, check_recipe
from gossamer.testing.trial import STORAGES, Promise, Trial

__all__ = [
    "CHECKS",
    "CONVOLUTIONAL",
    "LINEAR",
    "OPTIMIZERS",
    "STORAGES",
    "ConformanceError",
    "Foreign",
    "Network",
    "Promise",
    "Trial",
    "check_counts",
    "check_failures",
    "check_finalize",
    "check_ranks",
    "check_recipe",
    "check_resume",
    "check_seed",
    "check_skipped_steps",
    "check_steps",
    "check_storages",
    "check_updates",
    "check_zeros",
]
