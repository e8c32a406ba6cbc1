"""The options that train and compare share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

_TRAINING = "Training"
_SPARSITY = "Sparsity"
_RUN = "Run"

Data = Annotated[str, typer.Option(help="digits, fashion-mnist, mnist, or the path of a .npz or .csv file")]
DataDir = Annotated[
    str, typer.Option(help="folder with the IDX files; default: $GOSSAMER_DATA, else downloaded with a checksum")
]
Model = Annotated[
    str, typer.Option(help="mlp:1000x3, mlp:300-100, or package.module:function of (num_features, num_classes)")
]
TrainSize = Annotated[int, typer.Option(help="use the first rows of the training data only; 0: all")]
TestSize = Annotated[int, typer.Option(help="use the first rows of the test data only; 0: all")]

Sparsity = Annotated[
    float, typer.Option(help="fraction of the weights that do not exist, in [0, 1)", rich_help_panel=_SPARSITY)
]
Epsilon = Annotated[
    float,
    typer.Option(
        help="instead of --sparsity: epsilon * (inputs + outputs) weights in each layer", rich_help_panel=_SPARSITY
    ),
]
Storage = Annotated[
    str, typer.Option(help="masked, sparse, or auto: what the method trains on", rich_help_panel=_SPARSITY)
]
DropFraction = Annotated[
    float, typer.Option(help="fraction of the active weights exchanged at an update", rich_help_panel=_SPARSITY)
]
UpdateEvery = Annotated[
    int,
    typer.Option(
        help="steps between two updates, or of a phase (iht, ac_dc); 0: the method's own", rich_help_panel=_SPARSITY
    ),
]
UpdateUntil = Annotated[
    float,
    typer.Option(
        help="fraction of the training after which the topology stays; 0: the method's own",
        rich_help_panel=_SPARSITY,
    ),
]
Alpha = Annotated[float, typer.Option(help="slope of All-ReLU (truly_sparse)", rich_help_panel=_SPARSITY)]

Epochs = Annotated[int, typer.Option(help="passes over the training data", rich_help_panel=_TRAINING)]
BatchSize = Annotated[int, typer.Option(help="samples of an optimizer step", rich_help_panel=_TRAINING)]
Optimizer = Annotated[str, typer.Option(help="sgd or adamw", rich_help_panel=_TRAINING)]
LearningRate = Annotated[float, typer.Option("--lr", help="learning rate", rich_help_panel=_TRAINING)]
Decay = Annotated[str, typer.Option(help="none, or cosine: the learning rate falls to zero", rich_help_panel=_TRAINING)]
Momentum = Annotated[float, typer.Option(help="of sgd", rich_help_panel=_TRAINING)]
WeightDecay = Annotated[float, typer.Option(help="pull of the weights towards zero", rich_help_panel=_TRAINING)]
Dropout = Annotated[
    float, typer.Option(help="probability that a hidden value is zeroed (mlp)", rich_help_panel=_TRAINING)
]

Seed = Annotated[int, typer.Option(help="the same seed gives the same run", rich_help_panel=_RUN)]
Out = Annotated[Path | None, typer.Option(help="folder of the results; default: in runs/", rich_help_panel=_RUN)]
Resume = Annotated[bool, typer.Option("--resume", help="go on with the run in --out", rich_help_panel=_RUN)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the run in --out", rich_help_panel=_RUN)]
Threads = Annotated[int, typer.Option(help="processor threads; 0: torch's default", rich_help_panel=_RUN)]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table", rich_help_panel=_RUN)]
