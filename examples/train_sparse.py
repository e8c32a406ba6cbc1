"""Train a network that is truly sparse from the first step to the last: RigL on the bundled digits.

Shows the five lines that sparse training adds to a loop, and that the number of weights never changes.
"""

import torch
from torch.nn.functional import cross_entropy

import gossamer as gs

BATCH_SIZE = 64
NUM_EPOCHS = 12


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    data = gs.data.load("digits")
    model = gs.models.mlp([data.num_features, 256, 256, data.num_classes], sparsity=0.9, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    num_steps = NUM_EPOCHS * -(-len(data.train_inputs) // BATCH_SIZE)
    # The paper stops exchanging weights after 75 % of the training, so that the last ones can settle.
    sparsifier = gs.recipes.rigl(model, optimizer, stop_step=num_steps * 3 // 4, update_every=20, generator=generator)
    print(model)

    for epoch in range(1, NUM_EPOCHS + 1):
        dropped = 0
        for rows in gs.data.batches(len(data.train_inputs), batch_size=BATCH_SIZE, generator=generator):
            loss = cross_entropy(model(data.train_inputs[rows]), data.train_targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            dropped += sum(change.num_dropped for change in sparsifier.step())
        print(f"epoch {epoch:2d}: {sparsifier.num_active():,} active weights, {dropped:,} of them exchanged")

    model.eval()
    with torch.no_grad():
        accuracy = (model(data.test_inputs).argmax(1) == data.test_targets).float().mean()
    print(f"accuracy {100 * accuracy:.1f} % on {len(data.test_inputs)} test digits after {sparsifier.num_steps} steps")


if __name__ == "__main__":
    main()
