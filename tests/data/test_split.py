import pytest
import torch

from gossamer.data.split import stratified_split


def test_a_fifth_of_each_class_is_tested() -> None:
    targets = torch.tensor([0] * 10 + [1] * 20 + [2] * 5)

    train_rows, test_rows = stratified_split(targets)

    assert targets[test_rows].bincount().tolist() == [2, 4, 1]
    assert sorted(torch.cat([train_rows, test_rows]).tolist()) == list(range(35))


def test_a_remainder_goes_to_the_class_that_is_owed_most() -> None:
    targets = torch.tensor([0] * 6 + [1] * 7)

    _, test_rows = stratified_split(targets)

    # ceil(13 / 5) = 3; shares 1.38 and 1.62
    assert targets[test_rows].bincount().tolist() == [1, 2]


def test_a_class_of_one_row_stays_in_training() -> None:
    targets = torch.tensor([0, 1, 2, 2])

    train_rows, test_rows = stratified_split(targets)

    assert targets[test_rows].tolist() == [2]
    assert sorted(targets[train_rows].tolist()) == [0, 1, 2]


def test_rows_are_shuffled_and_the_seed_decides() -> None:
    targets = torch.arange(100) // 50

    first, again, other = (stratified_split(targets, seed=seed)[0].tolist() for seed in (0, 0, 1))

    assert first == again != other
    assert first != sorted(first)
    assert 0 < int(targets[first[:20]].sum()) < 20


def test_the_first_rows_of_both_parts_hold_the_classes_in_proportion() -> None:
    targets = torch.arange(10_000) % 10

    for rows in stratified_split(targets):
        counts = targets[rows[:200]].bincount(minlength=10)

        # 20 expected, deviation about 4
        assert 5 < int(counts.min()) <= int(counts.max()) < 35


def test_the_split_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    stratified_split(torch.arange(20) % 2)

    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("targets", [[], [0], [0, 1, 2]])
def test_too_few_rows_are_refused(targets: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one class needs two rows"):
        stratified_split(torch.tensor(targets, dtype=torch.int64))
