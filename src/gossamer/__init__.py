"""Gossamer: sparsity for PyTorch that pays."""
