import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gossamer import budgets

from .cases import CASES, Case, Shapes

every_budget = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
linear = st.tuples(st.integers(1, 40), st.integers(1, 40))
convolution = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
models = st.lists(linear | convolution, min_size=1, max_size=8).map(
    lambda found: {str(i): s for i, s in enumerate(found)}
)
# The type, and the budgets that are given something else than a sparsity.
OTHERS = {"Budget", "er_epsilon", "within_bytes", "within_flops"}
sparsities = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999999])


def refuses(case: Case, shapes: Shapes, sparsity: float) -> bool:
    """Return whether the sparsity is beyond what the budget can reach, after a look at its error."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    if case.total(sizes, sparsity) >= case.least(sizes):
        return False
    with pytest.raises(ValueError, match=r"ask for less|lower the sparsity|change the rules or the sparsity"):
        case.budget(shapes, sparsity=sparsity)
    return True


def test_the_table_holds_every_public_budget() -> None:
    assert sorted(case.name for case in CASES) == sorted({*budgets.__all__} - OTHERS)


@every_budget
@settings(max_examples=150, deadline=None)
@given(shapes=models, sparsity=sparsities)
@example(shapes={"wide": (40, 40), "tiny": (1, 2), "least": (1, 2)}, sparsity=0.9975)
@example(shapes={"wide": (40, 40), **{str(i): (1, 1) for i in range(30)}}, sparsity=0.98)
def test_the_total_is_met_and_no_tensor_keeps_more_than_it_has(
    case: Case, shapes: dict[str, tuple[int, ...]], sparsity: float
) -> None:
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = case.total(list(sizes.values()), sparsity)
    if refuses(case, shapes, sparsity):
        return

    kept = case.budget(shapes, sparsity=sparsity)

    assert list(kept) == list(shapes)
    assert all(type(count) is int for count in kept.values())
    assert sum(kept.values()) == total
    assert all(0 <= kept[name] <= sizes[name] for name in shapes)
    if total >= len(shapes):
        assert min(kept.values()) >= 1


@every_budget
@given(shapes=models)
@settings(max_examples=50, deadline=None)
def test_a_sparsity_of_zero_keeps_everything(case: Case, shapes: dict[str, tuple[int, ...]]) -> None:
    assert case.budget(shapes, sparsity=0.0) == {name: math.prod(shape) for name, shape in shapes.items()}


@every_budget
@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 90.0, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(case: Case, sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity must lie in"):
        case.budget({"a": (3, 4)}, sparsity=sparsity)


@every_budget
def test_a_single_tensor_takes_the_whole_budget(case: Case) -> None:
    shapes = {"only": (512, 1)}

    assert refuses(case, shapes, 0.9) or case.budget(shapes, sparsity=0.9) == {"only": 51}


@every_budget
def test_a_tensor_of_one_entry_is_kept(case: Case) -> None:
    assert case.budget({"one": (1, 1)}, sparsity=0.99) == {"one": 1}


@every_budget
def test_a_tensor_without_entries_keeps_none_and_costs_the_others_nothing(case: Case) -> None:
    shapes = {"empty": (0, 10), "a": (10, 10), "hollow": (4, 0, 3, 3)}

    assert refuses(case, shapes, 0.9) or case.budget(shapes, sparsity=0.9) == {"empty": 0, "a": 10, "hollow": 0}


@every_budget
def test_no_tensors_no_budget(case: Case) -> None:
    assert case.budget({}, sparsity=0.5) == {}


@every_budget
def test_equal_tensors_differ_by_one_weight_at_most(case: Case) -> None:
    shapes = {str(i): (10, 7) for i in range(3)}
    if refuses(case, shapes, 0.93):
        return

    kept = case.budget(shapes, sparsity=0.93)

    assert max(kept.values()) - min(kept.values()) <= 1


@every_budget
def test_the_shapes_are_left_as_they_are(case: Case) -> None:
    shapes = {"a": (30, 20), "b": (2, 30)}

    case.budget(shapes, sparsity=0.05)

    assert shapes == {"a": (30, 20), "b": (2, 30)}
