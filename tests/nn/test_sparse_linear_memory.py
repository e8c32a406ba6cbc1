import subprocess
import sys

_LARGE = """
import copy, resource, torch
from gossamer.nn import SparseLinear

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def work(size, sparsity):
    layer, other = (
        SparseLinear(size, size, sparsity=sparsity, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    other.load_state_dict(layer.state_dict())
    layer = copy.deepcopy(other)
    layer(torch.ones(2, size)).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9).step()
    other.replace_(layer.topology, layer.values.detach())
    return layer.num_active

work(10, 0.5)
before = peak()
assert work(50_000, 0.9999) == 250_000
print(peak() - before)
"""


def test_a_large_layer_lives_without_a_dense_detour() -> None:
    result = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, timeout=120)

    assert result.returncode == 0, result.stderr
    # The dense weight would take 10,000 MB, its mask 2,500.
    assert int(result.stdout) < 200_000
