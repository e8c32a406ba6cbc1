"""Train a pruned network on: what is absent stays absent, and nothing is written."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from gossamer import recipes
from gossamer.data import Dataset
from gossamer.distillation import distillation
from gossamer.rewinding import rewind_
from gossamer.sparsifier import Sparsifier
from gossamer.training.build import count_steps, make_optimizer
from gossamer.training.config import Config
from gossamer.training.record import NotFiniteError, Progress
from gossamer.training.steps import Loop, Loss, Watcher, Work, loss_of_labels
from gossamer.updates import Change
from gossamer.weights import MaskedWeight, prunable

# As in docs/pruning.md: a teacher that is as much heard as the labels.
TEMPERATURE, TEACHER_SHARE = 4.0, 0.5
_ROWS = 1000


def finetune(
    model: nn.Module,
    config: Config,
    dataset: Dataset,
    *,
    teacher: nn.Module | None = None,
    earlier: Mapping[str, Tensor] | None = None,
    watch: Watcher = lambda step, num_steps, note: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Return a copy of a pruned network, trained on with its zeros held.

    Truly sparse layers are trained as they are, which costs less than masks; zeros of dense weights are masked.

    Args:
        model: truly sparse, dense with zeros, or mixed; it is left as it is.
        config: epochs, batch size, optimizer, learning rate and its decay, seed; the rest is not looked at.
        dataset: its training rows are trained on.
        teacher: its outputs are learned from too, the labels counting for the other half; None: the labels alone.
        earlier: a state of the network, dense or not, that the weights which stay start from; None: from what they are.
        watch: called after every step with the step, the number of steps and a short text.
        should_stop: asked after every step; True: raise `TrainingInterruptedError`.

    Raises:
        ValueError: `earlier` is of another architecture, or an embedding that was pruned has sparse gradients.
        NotFiniteError: the loss or a weight became NaN or infinite.
        TrainingInterruptedError: `should_stop` said so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        tuned = copy.deepcopy(model)
        loss = _loss_with(teacher, dataset) if teacher is not None else loss_of_labels
        work = _work_on(tuned, config, dataset)
        try:
            # After the masks are taken: what stays may have been zero then.
            if earlier is not None:
                rewind_(tuned, earlier)
            Loop(config, dataset, work, _Memory(work), watch, loss).run(should_stop)
        finally:
            if work.sparsifier:
                work.sparsifier.finalize()
    return tuned.train(model.training)


class _Memory:
    """Keeps what the loop asks for, and no file."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.progress = Progress(checksum=0)

    def check_finite(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{what} became {value} at step {step} of {self._work.num_steps} of the fine-tuning; nothing was "
                "written: give a lower --lr, or check the data"
            )

    def update(self, changes: Sequence[Change]) -> None:
        """Nothing changes."""

    def evaluate(self) -> None:
        """A step may spoil the weights after a loss that was good."""
        for name, parameter in self._work.model.named_parameters():
            if not bool(parameter.detach().isfinite().all()):
                self.check_finite(name, math.nan, self.progress.step)

    def save(self) -> None:
        """The caller does, once, at the end."""

    def stop(self) -> str:
        return f"fine-tuning stopped after step {self.progress.step} of {self._work.num_steps}; nothing was written"


def _work_on(model: nn.Module, config: Config, dataset: Dataset) -> Work:
    optimizer = make_optimizer(config, model)
    steps_per_epoch, num_steps = count_steps(config, dataset)
    return Work(model, optimizer, _held(model, optimizer), num_steps, steps_per_epoch)


def _held(model: nn.Module, optimizer: Optimizer) -> Sparsifier | None:
    weights = prunable(model, embeddings=True)
    if all(isinstance(weight, MaskedWeight) and bool(weight.values().all()) for weight in weights):
        # At a sparsity of zero, or near it, there is nothing to hold.
        return None
    return recipes.hold(model, optimizer)


def _loss_with(teacher: nn.Module, dataset: Dataset) -> Loss:
    """The loss of labels and teacher, whose answers are taken once: rows are the same in every epoch."""
    was_training = teacher.training
    teacher.eval()
    with torch.no_grad():
        answers = torch.cat([teacher(inputs) for inputs in dataset.train_inputs.split(_ROWS)])
    teacher.train(was_training)

    def loss(outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        learned = distillation(outputs, answers[rows], temperature=TEMPERATURE)
        return (1.0 - TEACHER_SHARE) * cross_entropy(outputs, targets) + TEACHER_SHARE * learned

    return loss
