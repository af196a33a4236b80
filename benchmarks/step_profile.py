"""Where a training step's time goes, beside the time of its matrix products alone, measured in the same minute.

The parts are timed one by one on the same model and batch, in turn, and their medians are printed; ``whole step`` is
the step as training takes it.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from common import keep, timed
from contenders import BATCH, assemble, images, products
from jensen.distributions import closed_form_kl
from jensen.recipes import RECIPES
from jensen.training import ArrayBatches, Progress, Settings, Training

START = Progress(0, 0.0, 0.0)


def parts(training: Training, batch_size: int) -> dict[str, Callable[[], object]]:
    """The parts of a step, each by itself."""
    objective: Any = training.objective
    model = objective.model
    batches = training.batches
    stream: Iterator[Any] = iter(())

    def fetch() -> Any:
        nonlocal stream
        batch = next(stream, None)
        if batch is None:
            stream = batches.epoch(0)
            batch = next(stream)
        return batch

    batch = fetch()
    q = model.encode(batch.x)
    z = q.rsample((1,)).detach()
    p = model.decode(z)
    prior = model.prior()
    step = training._step()

    def forward() -> Any:
        return objective(batch, START)

    def gradients() -> None:
        for parameter in training.guard.parameters:
            parameter.grad = None
        forward()[0].backward()

    gradients()
    record = forward()[1]
    everything = {
        "batch: index and convert": fetch,
        "encoder": lambda: model.encode(batch.x),
        "draw": lambda: q.rsample((1,)),
        "decoder": lambda: model.decode(z),
        "likelihood": lambda: p.log_prob(batch.x),
        "KL": lambda: closed_form_kl(q, prior),
        "forward, all of it": forward,
        "forward and backward": gradients,
        "guard: norm and flags": training.guard.prepare,
        "optimiser": training.optimiser.step,
        "record": lambda: training.records.add(record),
        "whole step": lambda: step(fetch(), START),
        "matrix products alone": products(batch_size)[0],
    }
    average = training.average
    if average is not None:
        everything["average (one step in ten)"] = lambda: average.update(1000)
    return everything


def measure(work: Mapping[str, Callable[[], object]], rounds: int, repeat: int) -> dict[str, float]:
    """Median milliseconds of each part, measured in turn."""
    figures: dict[str, list[float]] = {name: [] for name in work}
    for count in range(rounds + 1):
        for name, do in work.items():
            seconds = timed(lambda do=do: [do() for _ in range(repeat)]) / repeat
            if count > 0:
                figures[name].append(1e3 * seconds)
    return {name: statistics.median(values) for name, values in figures.items()}


def table(milliseconds: Mapping[str, float]) -> str:
    """The parts with what each takes of the whole step."""
    whole = milliseconds["whole step"]
    lines = [f"{'':28}{'ms':>9}{'of the step':>14}"]
    lines += [f"{name:28}{ms:9.3f}{100 * ms / whole:13.0f}%" for name, ms in milliseconds.items()]
    backward = milliseconds["forward and backward"] - milliseconds["forward, all of it"]
    lines.append(f"{'(backward, the difference)':28}{backward:9.3f}{100 * backward / whole:13.0f}%")
    return "\n".join(lines)


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=30, help="times that a part is done in a round")
    parser.add_argument("--data", type=int, default=5000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = images(arguments.data)
    model, config = assemble(dataset, {"epochs": 1000})
    training = Training(
        RECIPES["vae"].objective(model, config),
        ArrayBatches(torch.as_tensor(dataset.x), BATCH),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
    )
    milliseconds = measure(parts(training, BATCH), arguments.rounds, arguments.repeat)
    flops = products(BATCH)[1]
    rate = flops / milliseconds["matrix products alone"] / 1e6
    share = milliseconds["matrix products alone"] / milliseconds["whole step"]
    print(table(milliseconds))
    print(
        f"matrix products: {flops / 1e9:.3f} GFLOP a step, {rate:.0f} GFLOP/s alone; {share:.2f} of the step"
    )
    path = keep(
        "profile",
        {
            "what": f"one step of 784-400-z40-400-784, Bernoulli, batch {BATCH}, part by part, in milliseconds",
            "milliseconds": milliseconds,
            "gigaflop_per_step": flops / 1e9,
            "gigaflops_alone": rate,
            "share_of_products": share,
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
