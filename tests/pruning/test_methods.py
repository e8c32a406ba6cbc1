import torch
from torch.nn.functional import cross_entropy

from gossamer.pruning import PRUNING_METHODS, find_pruning_method


def test_grasp_is_judged_at_the_temperature_of_its_authors_and_all_else_at_one() -> None:
    outputs, targets = torch.tensor([[300.0, 100.0], [0.0, 50.0]]), torch.tensor([1, 1])

    by_grasp = find_pruning_method("grasp").loss(outputs, targets)

    assert torch.equal(by_grasp, cross_entropy(torch.tensor([[1.5, 0.5], [0.0, 0.25]]), targets))
    others = [row for row in PRUNING_METHODS if row.name != "grasp"]
    assert all(torch.equal(row.loss(outputs, targets), cross_entropy(outputs, targets)) for row in others)
