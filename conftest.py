"""What pytest leaves out where a part cannot be imported."""

import importlib.util

# Triton has no wheels but for Linux; its kernels are tested in tests/kernels/gpu.
collect_ignore = [] if importlib.util.find_spec("triton") else ["src/gossamer/kernels/gpu.py"]
