"""Posteriors over weights: steps, ensembles and predictions in one call, beside loops in Python.

Run with the peers' Python, ``$JENSEN_PEERS benchmarks/weights_speed.py``; it writes
``benchmarks/results/weights_speed.json`` and prints a table in Markdown. Contenders take turns; ratios are medians of
the rounds' ratios. Without bayesian-torch its column is left out.

- A step of Bayes by backprop with 8 draws of the weights, against bayesian-torch's layers in a loop over 8 draws, as
  its examples do it. Both go over the same batches for several epochs.
- 8 members trained by ``method="ensemble"``, against 8 plain loops one after the other.
- A prediction from 100 draws, against a loop over draws with ``torch.func.functional_call``.
- The most that an epoch of Bayes by backprop has in memory at once, as it is by default and with 8 draws, against
  an epoch of the plain loop: tensors, weights and the optimiser's state among them, beside the data.

Networks are of UCI size (13-50-1, batches of 32) and 784-400-400-10 (batches of 100).
"""

import argparse
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

import jensen as jn
from common import in_turn, keep, most_at_once, ratio, timed

DRAWS, MEMBERS, PREDICTIONS = 8, 8, 100

Sizes = dict[str, tuple[tuple[int, ...], int, int, int]]
SIZES: Sizes = {"13-50-1": ((13, 50, 1), 455, 32, 20), "784-400-400-10": ((784, 400, 400, 10), 1000, 100, 2)}
"""Widths, data, batch size, epochs of a measurement."""
LARGE = ((784, 400, 400, 10), (784, 1200, 1200, 10))
"""Networks whose memory is measured; that of small ones is kilobytes, most of them the batch."""


def chain(widths: tuple[int, ...]) -> nn.Module:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def problem(widths: tuple[int, ...], n: int, device: str) -> tuple[Tensor, Tensor, str]:
    """Random data, their targets, and the likelihood."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, widths[0], generator=generator)
    if widths[-1] == 1:
        return x.to(device), torch.randn(n, generator=generator).to(device), "normal"
    return x.to(device), torch.randint(widths[-1], (n,), generator=generator).to(device), "categorical"


def loss_of(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean negative log-likelihood; the normal one with noise of scale one."""
    if kind == "categorical":
        return functional.cross_entropy
    return lambda outputs, y: 0.5 * (outputs[:, 0] - y).square().mean()


def loop(
    parameters: Any, x: Tensor, y: Tensor, batch: int, epochs: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """A plain training loop."""
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(epochs):
        order = torch.randperm(len(x), device=x.device)
        for index in order.split(batch):
            optimiser.zero_grad()
            loss(x[index], y[index]).backward()
            optimiser.step()


def bayesian_torch(widths: tuple[int, ...], device: str) -> nn.Module | None:
    """The network with bayesian-torch's layers; None where it isn't installed."""
    try:
        from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn
    except ImportError:
        return None
    model = chain(widths).to(device)
    dnn_to_bnn(
        model,
        {
            "prior_mu": 0.0,
            "prior_sigma": 1.0,
            "posterior_mu_init": 0.0,
            "posterior_rho_init": -4.6,
            "type": "Reparameterization",
            "moped_enable": False,
            "moped_delta": 0.5,
        },
    )
    return model.to(device)


def memory(widths: tuple[int, ...], n: int, batch: int) -> dict[str, float]:
    """Bytes at once of an epoch of the plain loop, and how many times them Bayes by backprop has."""
    x, y, kind = problem(widths, n, "cpu")
    network, loss = chain(widths), loss_of(kind)
    options: dict[str, Any] = {"likelihood": kind, "batch_size": batch, "epochs": 1}

    def plain() -> None:
        alone = chain(widths)
        loop(alone.parameters(), x, y, batch, 1, lambda rows, targets: loss(alone(rows), targets))

    def fitted(**further: Any) -> float:
        method = "bayes-by-backprop"
        return float(most_at_once(lambda: jn.weights.fit(network, x, y, method=method, **options, **further)))

    # What is made once in a process is made before.
    plain(), fitted()
    alone = float(most_at_once(plain))
    found = {"plain, bytes": alone, "times, by default": fitted() / alone}
    return found | {f"times, {DRAWS} draws a step": fitted(samples=DRAWS) / alone}


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measured(
    widths: tuple[int, ...], n: int, batch: int, epochs: int, rounds: int, device: str
) -> dict[str, Any]:
    """Seconds of each contender, and ratios."""
    x, y, kind = problem(widths, n, device)
    loss = loss_of(kind)
    common: dict[str, Any] = {"likelihood": kind, "batch_size": batch}
    if kind == "normal":
        common["noise_scale"] = 1.0
    network = chain(widths).to(device)

    def fitted(**options: Any) -> Callable[[], float]:
        def work() -> None:
            jn.weights.fit(network, x, y, epochs=epochs, **common, **options)
            wait(device)

        return lambda: timed(work)

    def by_bayesian_torch() -> float:
        from bayesian_torch.models.dnn_to_bnn import get_kl_loss

        model = bayesian_torch(widths, device)
        assert model is not None

        def step(rows: Tensor, targets: Tensor) -> Tensor:
            outputs, divergences = [], []
            for _ in range(DRAWS):
                outputs.append(model(rows))
                divergences.append(get_kl_loss(model))
            return loss(torch.stack(outputs).mean(0), targets) + torch.stack(divergences).mean() / n

        def work() -> None:
            loop(model.parameters(), x, y, batch, epochs, step)
            wait(device)

        return timed(work)

    def plain(alone: nn.Module) -> None:
        loop(alone.parameters(), x, y, batch, epochs, lambda rows, targets: loss(alone(rows), targets))

    def one_by_one() -> float:
        def work() -> None:
            for _ in range(MEMBERS):
                plain(chain(widths).to(device))
            wait(device)

        return timed(work)

    posterior: Any = jn.weights.fit(
        network, x, y, method="bayes-by-backprop", epochs=1, **{**common, "batch_size": n}
    )
    # A single prediction of the small network takes about a millisecond.
    rows, repeats = x[:100], 20 if widths[0] < 100 else 1

    def in_one_call() -> float:
        def work() -> None:
            for _ in range(repeats):
                posterior.predict(rows, samples=PREDICTIONS)
            wait(device)

        return timed(work) / repeats

    def draw_by_draw() -> float:
        means, scales = posterior.mean, posterior.std

        @torch.no_grad()
        def work() -> None:
            for _ in range(repeats):
                outputs = []
                for _ in range(PREDICTIONS):
                    weights = {name: m + scales[name] * torch.randn_like(m) for name, m in means.items()}
                    outputs.append(functional_call(network, weights, (rows,)))
                torch.stack(outputs)
            wait(device)

        return timed(work) / repeats

    backprop: dict[str, Callable[[], float]] = {"jensen": fitted(method="bayes-by-backprop", samples=DRAWS)}
    if bayesian_torch(widths, device) is not None:
        backprop["loop"] = by_bayesian_torch
    tasks = {
        f"Bayes by backprop, {DRAWS} draws a step": backprop,
        f"ensemble of {MEMBERS}": {
            "jensen": fitted(method="ensemble", members=MEMBERS),
            "loop": one_by_one,
        },
        f"prediction from {PREDICTIONS} draws": {"jensen": in_one_call, "loop": draw_by_draw},
    }
    found: dict[str, Any] = {}
    for task, contenders in tasks.items():
        figures = in_turn(contenders, rounds)
        found[task] = {name: statistics.median(values) for name, values in figures.items()}
        if "loop" in figures:
            found[task]["times faster"] = ratio(figures, "loop", "jensen")
        print(task, found[task], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {name: measured(*size, arguments.rounds, arguments.device) for name, size in SIZES.items()}
    name = "weights_speed" if arguments.device == "cpu" else "weights_speed_cuda"
    result = {"rounds": arguments.rounds, "device": arguments.device, "seconds": found}
    if arguments.device == "cpu":
        large = {"-".join(map(str, widths)): memory(widths, 1000, 100) for widths in LARGE}
        result["memory of Bayes by backprop"] = large
        for size, figures in large.items():
            print(size, figures)
    keep(name, result)
    print("| network | task | jensen, s | loop, s | times faster |\n|---|---|---:|---:|---:|")
    for size, tasks in found.items():
        for task, values in tasks.items():
            row = [f"{values[key]:.3f}" if key in values else "-" for key in ("jensen", "loop")]
            times = f"{values['times faster']:.1f}" if "times faster" in values else "-"
            print(f"| {size} | {task} | {' | '.join(row)} | {times} |")


if __name__ == "__main__":
    main()
