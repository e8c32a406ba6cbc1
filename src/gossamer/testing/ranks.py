"""Check that processes which train together change topologies alike: two of them, over gloo."""

import hashlib
import multiprocessing
import pickle
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gossamer.testing.run import Run, apart, begin_on, make_model
from gossamer.testing.trial import Trial, seeded

# What a rank saw: after each step the active entries of each weight and a digest of its values; and how it ended.
Story = tuple[list[dict[str, tuple[list[int], str]]], str]
SECONDS = 240
# What a weight says that would change its length.
REFUSAL = "which DistributedDataParallel cannot follow"


def check_ranks(*trials: Trial) -> None:
    """Check that two processes with the same seed and batches of their own have the same weights after every step.

    Both ranks train under `DistributedDataParallel`, which cannot follow truly sparse weights whose number changes, nor
    layers that change their size. A recipe that promises either, or that fits a truly sparse network to its pattern at
    the start, may refuse it, in all ranks at the same step, and leaves the topologies as they were; up to there it is
    held to the same. Starting the processes takes seconds, so any number of trials can be given at once.

    Raises:
        ConformanceError: the ranks differ, the recipe raised an error, or refuses by another than that of its weights.
        TypeError: a recipe cannot be sent to another process.
    """
    if not trials:
        return
    try:
        pickle.dumps(trials)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"{trials[0]} cannot be sent to another process ({error}); define start, optimizer and promise at the top "
            "of a module, or leave check_ranks out"
        ) from error
    for trial, stories in zip(trials, zip(*_tell_all(trials), strict=True), strict=True):
        _compare(trial, *stories)


def _may_be_refused(trial: Trial, *, at_start: bool) -> bool:
    promise = trial.promise
    changes = at_start or promise.counts != "per weight" or bool(promise.counts_change_at)
    return bool(promise.resizes_at) or (trial.storage == "truly sparse" and changes)


def _tell_all(trials: Sequence[Trial]) -> list[list[Story]]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [context.Process(target=_work, args=(folder, rank, trials)) for rank in (0, 1)]
        try:
            for process in ranks:
                process.start()
            # Once one has failed the other would wait for it for ever.
            wait([process.sentinel for process in ranks], SECONDS)
            for process in ranks:
                process.join(SECONDS if all(other.exitcode in (0, None) for other in ranks) else 5)
        finally:
            for process in ranks:
                process.kill()
        codes = [process.exitcode for process in ranks]
        if codes != [0, 0]:
            raise RuntimeError(f"the processes of {trials[0]} ended with {codes}; what they print says why")
        return [pickle.loads((Path(folder) / f"{rank}").read_bytes()) for rank in (0, 1)]


def _work(folder: str, rank: int, trials: Sequence[Trial]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        stories = [_train(trial, rank) for trial in trials]
    finally:
        dist.destroy_process_group()
    (Path(folder) / f"{rank}").write_bytes(pickle.dumps(stories))


def _train(trial: Trial, rank: int) -> Story:
    seen: list[dict[str, tuple[list[int], str]]] = []
    generator = seeded(0)
    model = make_model(trial, generator)
    # It holds the parameters that it finds; a recipe with something to finish makes others of them.
    together = None if trial.promise.finish else DistributedDataParallel(model)
    try:
        run = begin_on(trial, model, generator)
    except RuntimeError as error:
        # A recipe that fits the network to its pattern first.
        return seen, str(error)
    together = DistributedDataParallel(model) if together is None else together
    seen.append(_see(run))
    for step in range(1, trial.num_steps + 1):
        inputs = torch.randn(trial.network.batch_shape, generator=seeded(1000 + step + 100_000 * rank))
        run.optimizer.zero_grad()
        outputs: Tensor = together(inputs)
        (outputs.pow(2).mean() + outputs.mean()).backward()
        run.optimizer.step()
        try:
            run.sparsifier.step()
        except (RuntimeError, ValueError) as error:
            # A sparsifier whose topologies differ says so on every rank, so that none waits for another.
            return [*seen, _see(run)], str(error)
        seen.append(_see(run))
    return seen, ""


def _see(run: Run) -> dict[str, tuple[list[int], str]]:
    return {
        weight.name: (weight.indices().tolist(), hashlib.sha256(weight.values().numpy().tobytes()).hexdigest())
        for weight in run.sparsifier.weights
    }


def _compare(trial: Trial, one: Story, other: Story) -> None:
    for step, pair in enumerate(zip(one[0], other[0], strict=False)):
        for name, (expected, digest) in pair[0].items():
            found, other_digest = pair[1][name]
            if expected != found:
                words = apart(expected, found)
                rule = "ranks have the same active entries: rank 1 those of rank 0"
                raise trial.fault(rule, expected=words[0], found=words[1], step=step, weight=name)
            if digest != other_digest:
                rule = "ranks have the same values: the digest of rank 1 is that of rank 0"
                raise trial.fault(rule, expected=digest, found=other_digest, step=step, weight=name)
    step = max(0, len(one[0]) - 1)
    if one[1] != other[1]:
        raise trial.fault("ranks end alike", expected=one[1] or "no error", found=other[1] or "no error", step=step)
    if one[1] and not (_may_be_refused(trial, at_start=not one[0]) and REFUSAL in one[1]):
        raise trial.fault("ranks train without an error", expected="none", found=one[1], step=step)
    if one[1] and _entries(one[0][-1:]) != _entries(one[0][-2:-1] or one[0][-1:]):
        raise trial.fault("an update that is refused changes no topology", expected="none", found="a change", step=step)


def _entries(seen: list[dict[str, tuple[list[int], str]]]) -> list[dict[str, list[int]]]:
    return [{name: entries for name, (entries, _) in weights.items()} for weights in seen]
