from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gossamer.kernels import threads

from .problem import MASKS, OPS, Problem, make, ragged


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _bits(problem: Problem) -> list[torch.Tensor]:
    return [part for op in OPS for part in problem.run(op)]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("mask", [MASKS["ragged"], MASKS["one weight"], MASKS["no outputs"]])
def test_python_threads_give_the_bits_of_openmp(
    mask: torch.Tensor, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make(mask, 40, torch.float32)
    expected = _bits(problem)
    monkeypatch.setattr(threads, "_parallel", lambda: threads.python_threads)
    torch.set_num_threads(count)

    assert all(map(torch.equal, _bits(problem), expected))


@pytest.mark.parametrize("openmp", [True, False])
def test_callers_at_the_same_time_do_not_meet(openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(threads, "_parallel", lambda: threads.python_threads)
    problems = [make(ragged(), batch, torch.float32) for batch in (1, 17, 40, 65)] * 4
    expected = [_bits(problem) for problem in problems]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(_bits, problems))

    assert all(
        torch.equal(*pair) for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(("count", "num_blocks", "team"), [(1, 8, 1), (2, 8, 2), (3, 2, 2), (3, 0, 1)])
def test_a_team_has_the_threads_of_torch_but_no_more_than_blocks(
    count: int, num_blocks: int, team: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(threads, "_parallel", lambda: lambda task, data, num_threads: started.append(num_threads))
    torch.set_num_threads(count)

    threads.run(0, [], num_blocks=num_blocks)

    assert started == [team]
