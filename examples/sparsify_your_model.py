"""Make a model of your own truly sparse, train it with SET and AdamW, save it and load it again.

Shows `gs.sparsify` on any module, a layer that is left dense, and a file that is no bigger than the active weights.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gossamer as gs


class Residual(nn.Module):
    """A network as you may have it: nothing in it knows of sparsity."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(num_features, 256)
        self.inner = nn.Linear(256, 256)
        self.head = nn.Linear(256, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return one number for each class."""
        hidden = torch.relu(self.embed(inputs))
        outputs: Tensor = self.head(hidden + torch.relu(self.inner(hidden)))
        return outputs


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    data = gs.data.load("digits")
    dense = Residual(data.num_features, data.num_classes)
    model = gs.sparsify(dense, sparsity=0.9, exclude=["head"], generator=generator)
    # The optimizer comes after the model was made sparse: it must hold the new parameters.
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sparsifier = gs.recipes.set_(model, optimizer, update_every=23, stop_step=200, generator=generator)

    for _ in range(10):
        for rows in gs.data.batches(len(data.train_inputs), batch_size=64, generator=generator):
            loss = cross_entropy(model(data.train_inputs[rows]), data.train_targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sparsifier.step()

    with tempfile.TemporaryDirectory() as folder:
        for name, module in (("dense", dense), ("sparse", model)):
            gs.save(module, Path(folder) / name)
            print(f"{name:>6}: {(Path(folder) / name).stat().st_size:,} bytes on disk")
        # Any model of the same architecture serves to load into; its layers become sparse as the file says.
        loaded = gs.load(Path(folder) / "sparse", Residual(data.num_features, data.num_classes)).eval()
    print(loaded)
    with torch.no_grad():
        outputs = loaded(data.test_inputs)
        same = torch.equal(outputs, model.eval()(data.test_inputs))
    accuracy = (outputs.argmax(1) == data.test_targets).float().mean()
    print(f"accuracy of the loaded model {100 * accuracy:.1f} %, outputs equal to those before saving: {same}")


if __name__ == "__main__":
    main()
