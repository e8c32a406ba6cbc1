"""Training runs of the command line: configuration, loop, checkpoint, diary."""

from gossamer.training.build import load_data, set_up
from gossamer.training.config import Config, differences, read_config, write_config
from gossamer.training.loop import NotFiniteError, TrainingInterruptedError, evaluate, train
from gossamer.training.methods import METHODS, Method, find_method

__all__ = [
    "METHODS",
    "Config",
    "Method",
    "NotFiniteError",
    "TrainingInterruptedError",
    "differences",
    "evaluate",
    "find_method",
    "load_data",
    "read_config",
    "set_up",
    "train",
    "write_config",
]
