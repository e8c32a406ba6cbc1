"""Networks that the command line, the examples and the benchmarks train."""

from gossamer.models.mlp import mlp
from gossamer.models.resnet import resnet
from gossamer.models.vgg import vgg

__all__ = ["mlp", "resnet", "vgg"]
