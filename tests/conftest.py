"""For every test: one thread a process, and no word of kernels that are compiled."""

import os
import tempfile

# The suite runs in two processes on two cores; teams of two threads in each would wait for one another.
# Tests that are about threads set their own number. Subprocesses inherit the variable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whether a kernel is compiled yet depends on the order of the tests, and some look at what is printed.
os.environ.setdefault("GOSSAMER_QUIET", "1")
# What accelerate measures here is nothing to go by elsewhere.
os.environ.setdefault("GOSSAMER_CACHE", os.path.join(tempfile.gettempdir(), "gossamer-tests"))

import torch

torch.set_num_threads(1)
