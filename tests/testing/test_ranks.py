"""All recipes in two processes, which are started once: starting them takes longer than training."""

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.testing import ConformanceError, Promise, Trial, check_ranks, ranks

from ..recipes.cases import PAIRS, trial
from . import broken


def test_ranks_agree_whatever_the_recipe_and_one_that_differs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other processes import the tests to find the recipes.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    sound = [replace(trial(case, storage), num_steps=7) for case, storage in PAIRS]
    divergent = Trial(start=broken.differs_between_ranks, storage="truly sparse", num_steps=4)
    with pytest.raises(ConformanceError, match="topologies differ between ranks after step 3") as caught:
        check_ranks(*sound, divergent)

    # The recipes are looked at in this order: those before it have passed.
    assert str(caught.value).startswith("differs_between_ranks (truly sparse, sgd), after step 3: ranks train without")


Seen = list[dict[str, tuple[list[int], str]]]
REFUSED = "0.values would change its length, which DistributedDataParallel cannot follow; train it masked"
FREE = Promise(counts="total")


@pytest.mark.parametrize(
    ("promise", "seen", "errors", "message"),
    [
        (FREE, [[1, 2], [1, 2]], (REFUSED, ""), "ranks end alike; expected 0.values would"),
        (FREE, [[1, 2], [1, 2]], ("out of order", "out of order"), "ranks train without an error; expected none"),
        (Promise(), [[1, 2], [1, 2]], (REFUSED, REFUSED), "after step 1: ranks train without an error"),
        (FREE, [[1, 2], [1, 3]], (REFUSED, REFUSED), "an update that is refused changes no topology"),
    ],
)
def test_a_refusal_is_that_of_the_weights_alike_in_all_ranks_and_changes_nothing(
    promise: Promise, seen: list[list[int]], errors: tuple[str, str], message: str
) -> None:
    trial = Trial(start=broken.sound, storage="truly sparse", promise=promise)
    steps: Seen = [{"0.values": (entries, "digest")} for entries in seen]
    with pytest.raises(ConformanceError, match=message):
        ranks._compare(trial, (steps, errors[0]), (steps, errors[1]))

    ranks._compare(trial, (steps, ""), (steps, ""))
    if promise is FREE:
        ranks._compare(trial, (steps[:1] * 2, REFUSED), (steps[:1] * 2, REFUSED))


def test_ranks_with_other_entries_or_values_are_found() -> None:
    trial = Trial(start=broken.sound)
    one, other, third = ([{"0.weight": seen}] for seen in (([1, 2], "a"), ([1, 3], "a"), ([1, 2], "b")))
    with pytest.raises(ConformanceError, match="ranks have the same active entries: rank 1 those of rank 0"):
        ranks._compare(trial, (one, ""), (other, ""))
    with pytest.raises(ConformanceError, match="ranks have the same values"):
        ranks._compare(trial, (one, ""), (third, ""))


def test_a_recipe_that_cannot_be_sent_to_another_process_is_refused() -> None:
    with pytest.raises(TypeError, match=r"cannot be sent to another process .* leave check_ranks out"):
        check_ranks(Trial(start=lambda *given, **rest: broken.sound(*given, **rest)))
