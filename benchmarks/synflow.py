"""Pruning before training: where whole layers are lost, and what SynFlow's hundred rounds cost.

    python benchmarks/synflow.py                              # the six-layer network and ResNet-20, then VGG-16
    python benchmarks/synflow.py --networks vgg16 --cost      # only what 100 rounds cost, beside one pass
    python benchmarks/synflow.py --critical                   # how far the other criteria get

As in the authors' experiment: seed 0, inputs from N(0, 1), 100 of them with labels drawn at random, one batch,
evaluation mode, all weights of the network compete. Shown for each criterion, where one weight in 10^x stays, are the
number of empty layers, the weights on a path from input to output, and the weights kept. A layer that is not empty can
still be dead.
"""

import argparse
import functools
import resource
import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossamer import budgets, criteria, models, prune
from gossamer.machine import describe_machine
from gossamer.statistics import on_a_path

CRITERIA: dict[str, tuple[Callable[..., Tensor], int]] = {
    "SynFlow": (criteria.synflow, 100),
    "SNIP": (criteria.snip, 1),
    "GraSP": (criteria.grasp, 1),
    "magnitude": (criteria.magnitude, 1),
    "random": (criteria.random, 1),
}


def softened(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy at temperature 200, as the authors take it for GraSP."""
    return cross_entropy(outputs / 200, targets)


def seeded() -> torch.Generator:
    """Return a generator with seed 0."""
    return torch.Generator().manual_seed(0)


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a fresh network and the shape of its inputs."""
    if name == "fc":
        return models.mlp([784, 100, 100, 100, 100, 100, 10], generator=seeded()), (784,)
    if name == "resnet20":
        return models.resnet(20, num_classes=10, generator=seeded()), (3, 32, 32)
    return models.vgg(16, num_classes=10, generator=seeded()), (3, 32, 32)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of linear layers and convolutions by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.dim() > 1}


def cut(model: nn.Module, label: str, power: float, batch: tuple[Tensor, Tensor]) -> nn.Module:
    """Prune to one weight in 10^power."""
    criterion, rounds = CRITERIA[label]
    return prune(
        model,
        sparsity=1 - 10**-power,
        criterion=criterion,
        budget=budgets.global_,
        rounds=rounds,
        data=[batch],
        loss_fn=softened if label == "GraSP" else cross_entropy,
        generator=seeded(),
        reestimate=False,
    )


def show_collapse(name: str, powers: list[float], labels: list[str]) -> None:
    """Print what each criterion leaves of one network."""
    model, shape = network(name)
    batch = random_batch(shape)
    table = Table(title=f"{name}: empty layers / weights on a path / weights kept", title_justify="left")
    table.add_column("criterion")
    for power in powers:
        table.add_column(f"10^{power:g}", justify="right")
    for label in labels:
        cells = []
        for power in powers:
            try:
                small = cut(model, label, power, batch)
            except ValueError as error:
                cells.append(f"stopped: {error}"[:40])
                continue
            kept = [int(weight.count_nonzero()) for weight in weights_of(small).values()]
            cells.append(
                f"{kept.count(0)} / {sum(on_a_path(small, weights_of(small), example=batch[0]).values())} / {sum(kept)}"
            )
        table.add_row(label, *cells)
    Console(width=140).print(table)


def show_critical(name: str, labels: list[str]) -> None:
    """Print, for the criteria that cut once, the last step of 0.25 with no empty layer and the last with a path."""
    model, shape = network(name)
    batch = random_batch(shape)
    table = Table(title=f"{name}: last 10^x without an empty layer / with a path", title_justify="left")
    for column in ("criterion", "no empty layer", "a path"):
        table.add_column(column, justify="right" if column != "criterion" else "left")
    for label in [label for label in labels if label != "SynFlow"]:
        whole, path = 0.0, 0.0
        for step in range(1, 19):
            small = cut(model, label, step / 4, batch)
            weights = weights_of(small)
            reaches = any(on_a_path(small, weights, example=batch[0]).values())
            whole = step / 4 if all(bool(weight.count_nonzero()) for weight in weights.values()) else whole
            path = step / 4 if reaches else path
            if step / 4 > max(whole, path) + 0.5:
                break
        table.add_row(label, f"{whole:g}", f"{path:g}")
    Console(width=140).print(table)


def random_batch(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return a hundred random inputs with random classes."""
    generator = seeded()
    return torch.randn(100, *shape, generator=generator), torch.randint(10, (100,), generator=generator)


def show_cost(powers: list[float]) -> None:
    """Print the processor seconds of 100 rounds on VGG-16, beside rounds as papers' code does them, and one pass.

    A plain round: the derivative of all weights by torch, scores of all in one vector, its k-th value, masks.
    """
    model, shape = network("vgg16")
    example = torch.zeros(1, *shape)
    batch = example, torch.zeros(1, dtype=torch.long)
    cut(model, "SynFlow", 0.01, batch)  # compiles
    passes, rounds = [], []
    for power in powers:
        for _ in range(5):
            passes.append(spent(lambda: one_pass(shape)))
            rounds.append(spent(lambda: plain_round(shape)))
        ours = spent(lambda power=power: cut(model, "SynFlow", power, batch))  # type: ignore[misc]
        print(f"VGG-16, 100 rounds to 10^{power:g}: {ours:.1f} processor seconds")
    one, plain = statistics.median(passes), statistics.median(rounds)
    print(
        f"one float64 pass forward and backward {1000 * one:.0f} ms; a plain round {1000 * plain:.0f} ms, 100: ", end=""
    )
    print(f"{100 * plain:.0f} processor seconds; medians of {len(passes)}, taken between the others")


def spent(work: Callable[[], object]) -> float:
    """Return the processor seconds that something takes, over all threads."""
    start = cpu_seconds()
    work()
    return cpu_seconds() - start


@functools.cache
def twin() -> nn.Module:
    """Return the network for plain passes: float64, no weight negative."""
    model = models.vgg(16, num_classes=10, generator=seeded()).double().eval()
    for parameter in model.parameters():
        parameter.data.abs_()
    return model


def one_pass(shape: tuple[int, ...]) -> list[Tensor]:
    """Return the derivatives of the sum of the outputs by all weights."""
    ones = torch.ones(1, *shape, dtype=torch.float64)
    return list(torch.autograd.grad(twin()(ones).sum(), list(weights_of(twin()).values())))


def plain_round(shape: tuple[int, ...]) -> list[Tensor]:
    """Return the masks of one round with nothing but torch."""
    gradients = one_pass(shape)
    scores = [weight.detach() * part for weight, part in zip(weights_of(twin()).values(), gradients, strict=True)]
    flat = torch.cat([part.flatten() for part in scores])
    threshold = flat.kthvalue(flat.numel() // 50).values
    return [part > threshold for part in scores]


def cpu_seconds() -> float:
    """Return the processor time that this process has used, over all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="fc,resnet20,vgg16")
    parser.add_argument("--powers", default="1,2,3,4")
    parser.add_argument("--cost", action="store_true", help="only the cost on VGG-16")
    parser.add_argument("--critical", action="store_true", help="only the last powers without an empty layer")
    parser.add_argument("--criteria", default=",".join(CRITERIA))
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    labels = options.criteria.split(",")
    powers = [float(power) for power in options.powers.split(",")]
    print(describe_machine())
    for name in [] if options.cost else options.networks.split(","):
        show_critical(name, labels) if options.critical else show_collapse(name, powers, labels)
    if "vgg16" in options.networks and not options.critical:
        show_cost(powers)


if __name__ == "__main__":
    main()
