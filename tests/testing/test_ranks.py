"""All recipes in two processes, which are started once: starting them takes longer than training."""

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.testing import ConformanceError, Trial, check_ranks

from ..recipes.cases import PAIRS, trial
from . import broken


def test_ranks_agree_whatever_the_recipe_and_one_that_differs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other processes import the tests to find the recipes.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    # A truly sparse network gets another number of weights at the start of nm_rigl, which DDP refuses.
    pairs = [pair for pair in PAIRS if (pair[0].name, pair[1]) != ("nm_rigl", "truly sparse")]
    sound = [replace(trial(case, storage), num_steps=7) for case, storage in pairs]
    divergent = Trial(start=broken.differs_between_ranks, storage="truly sparse", num_steps=4)
    with pytest.raises(ConformanceError, match="ranks have the same active entries: rank 1 those of rank 0") as caught:
        check_ranks(*sound, divergent)

    # The recipes are looked at in this order: those before it have passed.
    assert str(caught.value).startswith("differs_between_ranks (truly sparse, sgd), after step 3, 0.values: ")


def test_a_recipe_that_cannot_be_sent_to_another_process_is_refused() -> None:
    with pytest.raises(TypeError, match=r"cannot be sent to another process .* leave check_ranks out"):
        check_ranks(Trial(start=lambda *given, **rest: broken.sound(*given, **rest)))
