import pytest
import torch
from torch import Tensor

from gossamer.recipes import EarlyBird


def mask_of(num_off: int, shift: int = 0) -> dict[str, Tensor]:
    """Return masks of 20 and 20 entries, `num_off` of which are off from a place on."""
    mask = torch.ones(40, dtype=torch.bool)
    mask[shift : shift + num_off] = False
    return {"a": mask[:20].view(4, 5), "b": mask[20:]}


def test_it_says_so_when_five_masks_before_are_near() -> None:
    early_bird = EarlyBird()

    assert [early_bird.update(mask_of(4)) for _ in range(7)] == [False] * 5 + [True] * 2


def test_the_distance_counts_entries_over_all_weights_and_must_be_below() -> None:
    early_bird = EarlyBird(num_masks=1)
    early_bird.update(mask_of(4))

    # moved by one: two entries of 40 differ; by two: four, which is a tenth and too many
    assert early_bird.update(mask_of(4, shift=1))
    assert not early_bird.update(mask_of(4, shift=3))


def test_one_far_mask_among_those_before_is_enough_to_go_on() -> None:
    early_bird = EarlyBird(num_masks=3)
    answers = [early_bird.update(mask_of(4, shift)) for shift in (0, 10, 10, 10, 10)]

    assert answers == [False, False, False, False, True]


def test_a_mask_changed_afterwards_does_not_change_what_was_seen() -> None:
    early_bird, masks = EarlyBird(num_masks=1), mask_of(4)
    early_bird.update(masks)
    masks["a"].fill_(False)

    assert not early_bird.update(masks)


@pytest.mark.parametrize("saved_at", [0, 2, 4])
def test_a_resumed_one_answers_as_the_uninterrupted_one(saved_at: int) -> None:
    shifts = (0, 9, 9, 8, 8, 20, 20, 20)
    whole, resumed, answers = EarlyBird(num_masks=2), EarlyBird(num_masks=2), []
    for number, shift in enumerate(shifts):
        if number == saved_at:
            resumed.load_state_dict(whole.state_dict())
        answers.append(whole.update(mask_of(4, shift)))

    assert [resumed.update(mask_of(4, shift)) for shift in shifts[saved_at:]] == answers[saved_at:]
    assert True in answers[saved_at:]


def test_misuse_is_an_error() -> None:
    early_bird = EarlyBird(num_masks=2)
    early_bird.update(mask_of(4))

    with pytest.raises(ValueError, match=r"give the same weights each time"):
        early_bird.update({"a": torch.ones(4, 5, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"a has dtype torch.float32; a mask is bool"):
        early_bird.update({name: mask.float() for name, mask in mask_of(4).items()})
    with pytest.raises(ValueError, match=r"one or more"):
        EarlyBird().update({})
    with pytest.raises(ValueError, match=r"num_masks must be 1 or more, got 0"):
        EarlyBird(num_masks=0)
    with pytest.raises(ValueError, match=r"max_distance must lie in \[0, 1\], got 2"):
        EarlyBird(max_distance=2)
    early_bird.update(mask_of(4))
    with pytest.raises(ValueError, match=r"the state holds 2 masks, num_masks is 1"):
        EarlyBird(num_masks=1).load_state_dict(early_bird.state_dict())


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ([{"a": torch.ones(3)}], "a has dtype torch.float32; a mask is bool"),
        ([mask_of(1), {"z": torch.ones(3, dtype=torch.bool)}], "give the same weights each time"),
    ],
)
def test_a_state_of_other_things_than_masks_of_one_model_is_refused(seen: list[dict[str, Tensor]], text: str) -> None:
    early_bird = EarlyBird(num_masks=2)
    early_bird.update(mask_of(4))

    with pytest.raises(ValueError, match=text):
        early_bird.load_state_dict({"seen": seen})
    assert len(early_bird.state_dict()["seen"]) == 1
