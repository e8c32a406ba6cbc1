"""Products that touch only the weights that exist, for the CPU (Numba) and as registered operators."""
