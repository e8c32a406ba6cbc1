"""Write a drop criterion of your own in three lines and train with it.

Shows the seam for new methods: a criterion is a function of the values, an `Exchange` combines it with a growth rule,
and the `Sparsifier` does the rest for masked and truly sparse weights alike.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer.weights import Weight


def distance_from_mean(weight: Tensor) -> Tensor:
    """Score each weight by its distance from the mean of all: larger means keep."""
    return (weight.detach() - weight.detach().mean()).abs().float()


def grow_at_random(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose where weights grow; the rule sees which ones were kept."""
    return gs.growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)


def main() -> None:
    data = gs.data.load("digits")
    for criterion in (gs.criteria.magnitude, distance_from_mean):
        generator = torch.Generator().manual_seed(0)
        model = gs.models.mlp([data.num_features, 128, 128, data.num_classes], sparsity=0.9, generator=generator)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        exchange = gs.updates.Exchange(
            drop=criterion,
            grow=grow_at_random,
            drop_fraction=gs.schedules.cosine(0.3, 0.0, stop_step=150),
            update_every=10,
            stop_step=150,
        )
        sparsifier = gs.Sparsifier(gs.prunable(model), optimizer, updates=[exchange], generator=generator)
        for _ in range(8):
            for rows in gs.data.batches(len(data.train_inputs), batch_size=64, generator=generator):
                loss = cross_entropy(model(data.train_inputs[rows]), data.train_targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                sparsifier.step()
        with torch.no_grad():
            accuracy = (model.eval()(data.test_inputs).argmax(1) == data.test_targets).float().mean()
        print(f"{criterion.__name__:<18} {sparsifier.num_active():,} weights, accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
