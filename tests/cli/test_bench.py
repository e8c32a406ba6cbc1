import pytest

from .shell import good, refused

SMALL = ("bench", "--shape", "48x64", "--batch", "4", "--sparsity", "0.5,0.9", "--seconds", "0.01", "--threads", "1")


def test_every_storage_stands_beside_dense() -> None:
    fields = good(*SMALL, "--json").json

    assert (fields["shape"], fields["batch"], fields["machine"]["threads"]) == ([48, 64], 4, 1)
    assert [row["format"] for row in fields["rows"]] == ["csr", "lean_csr", "block", "constant_fan_in", "compact"] * 2
    for row in fields["rows"][5:]:
        assert 0.85 < row["sparsity"] < 0.95
        assert row["bytes"] < row["dense_bytes"] == 4 * 48 * 65
        assert row["ms"] > 0 < row["dense_ms"]


def test_only_csr_trains() -> None:
    rows = good(*SMALL, "--json").json["rows"]

    assert [row["training_ms"] is not None for row in rows] == [False] * 5 + [True] + [False] * 4


def test_what_takes_more_than_dense_is_said() -> None:
    out = good(*SMALL).out

    assert "linear layer, 48 x 64, batch 4" in out
    assert "more than dense" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--shape", "1000"), "--shape 1000 is no shape of a weight"),
        (("--shape", "0x5"), "--shape 0x5 is no shape of a weight"),
        (("--sparsity", "high"), "--sparsity high is no list of numbers"),
        (("--sparsity", "1.5"), "1.5"),
        (("--batch", "0"), "--batch"),
        (("--seconds", "-1"), "--seconds must be above 0"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], part: str) -> None:
    assert part in refused("bench", *words)
