import time
from collections import Counter

import pytest
import torch

from gossamer.acceleration.calls import Call, agree, stand_ins
from gossamer.acceleration.timing import interleaved

CPU = torch.device("cpu")


class Contender:
    """Takes a while and counts its calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self) -> None:
        self.calls += 1
        time.sleep(self.seconds)


def test_every_contender_has_its_own_median() -> None:
    contenders = {"quick": Contender(0.001), "slow": Contender(0.003)}

    times = interleaved(contenders, seconds=0.01, keep="slow", device=CPU)

    assert 0.9 < times["quick"] < times["slow"]
    assert times["slow"] > 2.9


def test_the_hopeless_are_not_timed_on_but_for_the_one_given() -> None:
    contenders = {"quick": Contender(0.0), "hopeless": Contender(0.01), "given": Contender(0.01)}

    times = interleaved(contenders, seconds=0.01, keep="given", device=CPU)

    assert contenders["hopeless"].calls == 3
    assert contenders["given"].calls > 3
    assert times["hopeless"] > 9


def test_a_time_limit_ends_after_five_rounds() -> None:
    contenders = {"one": Contender(0.002), "two": Contender(0.002)}

    interleaved(contenders, seconds=1e-9, keep="one", device=CPU)

    # Three to warm up; in each round one before the clock runs, and one while it does.
    assert contenders["one"].calls == 3 + 2 * 5


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.00001], [1.0, 2.0], True),
        ([1.0, 2.001], [1.0, 2.0], False),
        ([1e-9, 2.0], [0.0, 2.0], True),
        ([float("nan"), 2.0], [0.0, 2.0], False),
        ([float("nan"), 2.0], [float("nan"), 2.0], True),
        ([float("inf"), 2.0], [float("inf"), 2.0], True),
        ([0.0], [0.0, 0.0], False),
        ([], [], True),
    ],
)
def test_outputs_agree_up_to_rounding(found: list[float], expected: list[float], equal: bool) -> None:
    mine, theirs = torch.tensor(found), torch.tensor(expected)

    assert agree({"a": mine, "b": 3}, {"a": theirs, "b": 4}, roundings=500) is equal
    assert agree((mine, (theirs,)), (theirs, (theirs,)), roundings=500) is equal


def test_another_dtype_or_another_number_of_outputs_is_another_result() -> None:
    assert not agree(torch.zeros(2), torch.zeros(2).double(), roundings=500)
    assert not agree([torch.zeros(2)], [torch.zeros(2)] * 2, roundings=500)


@pytest.mark.parametrize("stride", [(6, 1), (1, 4), (12, 2)])
def test_stand_ins_have_the_shape_and_strides_of_a_call(stride: tuple[int, int]) -> None:
    calls = Counter({Call((4, 6), stride, torch.float64): 3})

    ((tensor, times),), factor = stand_ins(calls, CPU)

    assert (tuple(tensor.shape), tensor.stride(), tensor.dtype, times, factor) == ((4, 6), stride, torch.float64, 1, 3)
    assert torch.equal(tensor, stand_ins(calls, CPU)[0][0][0])
    assert bool(tensor.isfinite().all())


def test_stand_ins_come_in_the_proportions_of_the_calls() -> None:
    calls = Counter({Call((1, 6), (6, 1), torch.float32): 20, Call((4, 6), (6, 1), torch.float32): 10})

    inputs, factor = stand_ins(calls, CPU)

    assert [(len(tensor), times) for tensor, times in inputs] == [(1, 2), (4, 1)]
    assert factor == 10


def test_of_a_hundred_shapes_a_few_stand_for_all() -> None:
    calls = Counter({Call((size, 6), (6, 1), torch.float32): 1 for size in range(100)})

    inputs, factor = stand_ins(calls, CPU)

    assert len(inputs) == 8
    assert factor == 100 / 8


def test_a_broadcast_input_is_stood_in_for() -> None:
    ((tensor, _),), _ = stand_ins(Counter({Call((4, 6), (0, 1), torch.float32): 1}), CPU)

    assert tensor.shape == (4, 6)
