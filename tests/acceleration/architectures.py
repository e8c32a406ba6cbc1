"""Six small architectures, pruned, each with an input."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import models, pruning


class Attention(nn.Module):
    """A block of a transformer whose parts are linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, inputs: Tensor) -> Tensor:
        batch, length, width = inputs.shape
        parts = self.mix(self.before(inputs)).view(batch, length, 3, self.heads, width // self.heads)
        attended = F.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        hidden = inputs + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.down(F.gelu(self.up(self.between(hidden))))  # type: ignore[no-any-return]


class Text(nn.Module):
    """The mean of embedded words, then linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(500, 128)
        self.layers = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 20))

    def forward(self, words: Tensor) -> Tensor:
        return self.layers(self.embedding(words).mean(1))  # type: ignore[no-any-return]


def chain(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    parts = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def lenet() -> nn.Sequential:
    """Two convolutions, two linear layers."""
    front = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*front, nn.Flatten(), nn.Linear(256, 400), nn.ReLU(), nn.Linear(400, 10))


def convolutions() -> nn.Sequential:
    """Three convolutions of images, as in the first stages of a residual network."""
    sizes = pairwise((3, 32, 32, 32))
    parts = [part for pair in sizes for part in (nn.Conv2d(*pair, 3, padding=1), nn.BatchNorm2d(pair[1]), nn.ReLU())]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


NAMES = ("mlp", "lenet", "transformer", "resnet", "text", "autoencoder")


def pruned(name: str, sparsity: float) -> tuple[nn.Module, Tensor]:
    """One of NAMES, or "convolutions", most of its weights zero, in evaluation mode; and a batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, example = _made(name)
    return pruning.prune(model, sparsity=sparsity).eval(), example


def _made(name: str) -> tuple[nn.Module, Tensor]:
    if name == "mlp":
        return chain(200, 400, 400, 10), torch.randn(64, 200)
    if name == "lenet":
        return lenet(), torch.randn(8, 1, 28, 28)
    if name == "transformer":
        return nn.Sequential(Attention(128, 4)), torch.randn(4, 16, 128)
    if name == "resnet":
        model = models.resnet(8, num_classes=10, generator=torch.Generator().manual_seed(0))
        return model, torch.randn(2, 3, 32, 32)
    if name == "convolutions":
        return convolutions(), torch.randn(4, 3, 32, 32)
    if name == "text":
        return Text(), torch.randint(500, (32, 10))
    return chain(300, 200, 50, 200, 300), torch.randn(32, 300)
