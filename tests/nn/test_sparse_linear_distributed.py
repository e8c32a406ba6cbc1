import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed

_RANK = """
import sys
import torch
import torch.distributed as dist
from gossamer import topology
from gossamer.nn import SparseLinear

torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=sys.argv[2], rank=rank, world_size=2)

def gather(what):
    both = [None, None]
    dist.all_gather_object(both, what)
    return both

def agree(parts):
    return all(map(torch.equal, *gather([part.detach().clone() for part in parts])))

layer = SparseLinear(6, 4, sparsity=0.5, generator=torch.Generator().manual_seed(rank))
before = gather(topology.fingerprint(layer.topology))
assert before[0] != before[1]

model = torch.nn.parallel.DistributedDataParallel(layer)
after = gather(topology.fingerprint(layer.topology))
assert after == [before[0]] * 2, "topologies differ after wrapping"
assert agree([*layer.parameters(), *layer.buffers()]), "weights differ after wrapping"
expected = topology.transpose(layer.topology)
assert all(map(torch.equal, expected, (layer.column_pointers, layer.row_indices, layer.permutation)))

optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
for step in range(2):
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(10 * step + rank))
    own = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    optimizer.zero_grad()
    model(x).square().sum().backward()
    for parameter, (one, other) in zip(layer.parameters(), zip(*gather(own))):
        torch.testing.assert_close(parameter.grad, (one + other) / 2)
    optimizer.step()
    assert agree(layer.parameters()), "weights differ after a step"

dist.barrier()
dist.destroy_process_group()
print("agreed")
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_ranks_of_different_seeds_agree_and_share_their_gradients(tmp_path: Path) -> None:
    store = (tmp_path / "store").as_uri()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        results = [rank.communicate(timeout=60) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()

    assert [output for output, _ in results] == ["agreed\n"] * 2, results
