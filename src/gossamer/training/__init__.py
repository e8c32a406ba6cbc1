"""Training runs of the command line: configuration, loop, checkpoint, diary."""

from gossamer.training.build import build_model, load_data, set_up
from gossamer.training.config import Config, differences, read_config, write_config
from gossamer.training.finetune import finetune
from gossamer.training.loop import train
from gossamer.training.method import Method
from gossamer.training.methods import METHODS, find_method
from gossamer.training.metrics import last_event
from gossamer.training.record import NotFiniteError
from gossamer.training.results import evaluate, renew_statistics_
from gossamer.training.steps import TrainingInterruptedError
from gossamer.training.trial import check

__all__ = [
    "METHODS",
    "Config",
    "Method",
    "NotFiniteError",
    "TrainingInterruptedError",
    "build_model",
    "check",
    "differences",
    "evaluate",
    "find_method",
    "finetune",
    "last_event",
    "load_data",
    "read_config",
    "renew_statistics_",
    "set_up",
    "train",
    "write_config",
]
