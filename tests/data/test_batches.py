import pytest
import torch

from gossamer.data import batches


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "expected"),
    [
        (5, 2, [[0, 1], [2, 3], [4]]),
        (4, 2, [[0, 1], [2, 3]]),
        (2, 10, [[0, 1]]),
        (3, 1, [[0], [1], [2]]),
    ],
)
def test_without_a_generator_rows_keep_their_order(num_rows: int, batch_size: int, expected: list[list[int]]) -> None:
    found = [batch.tolist() for batch in batches(num_rows, batch_size=batch_size, generator=None)]

    assert found == expected


def test_a_generator_shuffles_and_every_row_comes_once() -> None:
    found = list(batches(100, batch_size=32, generator=torch.Generator().manual_seed(0)))

    assert [len(batch) for batch in found] == [32, 32, 32, 4]
    assert torch.cat(found).tolist() != list(range(100))
    assert sorted(torch.cat(found).tolist()) == list(range(100))
    assert found[0].dtype == torch.int64


def test_the_same_seed_gives_the_same_batches_and_the_next_call_others() -> None:
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]

    first, again = (torch.cat(list(batches(50, batch_size=8, generator=generator))) for generator in generators)
    later = torch.cat(list(batches(50, batch_size=8, generator=generators[0])))

    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_the_order_is_drawn_at_the_call() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()

    batches(10, batch_size=2, generator=generator)

    assert not torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "text"),
    [(5, 0, "batch_size is 0"), (5, -1, "batch_size is -1"), (0, 2, "num_rows is 0")],
)
def test_bad_counts_are_refused_at_the_call(num_rows: int, batch_size: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        batches(num_rows, batch_size=batch_size, generator=None)
