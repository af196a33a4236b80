"""Training throughput of one VAE: jensen beside a loop by hand, Pythae and Pyro.

Run it with the peers' Python; with another one it measures jensen and the bare loop alone.
"""

import argparse
import statistics
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from common import in_turn, keep, ratio, timed
from contenders import (
    BARE_FEATURES,
    BATCH,
    Epoch,
    bare,
    have,
    images,
    jensen,
    products,
    pyro,
    pythae,
)
from jensen.data import Dataset

TARGETS = {"bare": 1.0, "pythae": 1.2, "pyro": 2.0}
"""Least ratio of jensen's throughput with equal features to each one's."""


def profiled_share(epoch: Epoch) -> float:
    """Part of the processor's time in a profiled epoch that goes into matrix products; the profiler costs time too."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        epoch()
    events = recorded.key_averages()
    products = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
    spent = sum(event.self_cpu_time_total for event in events if event.key in products)
    return spent / sum(event.self_cpu_time_total for event in events)


def contenders(dataset: Dataset) -> dict[str, Epoch]:
    """Whoever can be measured here."""
    found = {
        "bare": bare(dataset),
        "jensen": jensen(dataset, BARE_FEATURES),
        "jensen, defaults": jensen(dataset, {}),
    }
    if have("pythae"):
        found["pythae"] = pythae(dataset)
    if have("pyro"):
        found["pyro"] = pyro(dataset)
        found["pyro, as in its manual"] = pyro(dataset, manual=True)
        found["pyro, no validation"] = pyro(dataset, validation=False)
    for peer in ("pythae", "pyro"):
        if peer not in found:
            print(f"{peer} is not installed here and is not measured; see benchmarks/README.md")
    return found


def measure(dataset: Dataset, rounds: int) -> dict[str, Any]:
    """All figures, of contenders and of the products alone, taken in turn."""
    racing = contenders(dataset)
    (work, flops), steps = products(BATCH), -(-len(dataset) // BATCH)
    racing["products alone"] = lambda: len(dataset) / timed(lambda: [work() for _ in range(steps)])
    figures = in_turn(racing, rounds)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    return {
        "data_per_second": medians,
        "ms_per_step": {name: 1e3 * BATCH / value for name, value in medians.items()},
        "jensen_over": {name: ratio(figures, "jensen", name) for name in figures},
        "jensen_defaults_over": {name: ratio(figures, "jensen, defaults", name) for name in figures},
        "targets": TARGETS,
        "products": {
            "flops_per_step": flops,
            "gigaflops_alone": flops * medians["products alone"] / BATCH / 1e9,
            "share_of_jensen_step": ratio(figures, "jensen", "products alone"),
            "share_of_bare_step": ratio(figures, "bare", "products alone"),
            "profiled_share_of_jensen_step": profiled_share(racing["jensen"]),
        },
        "rounds": figures,
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        "| | data/s | ms a step | jensen is so many times as fast | with its defaults |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, rate in result["data_per_second"].items():
        cells = [f"{rate:,.0f}", f"{result['ms_per_step'][name]:.2f}"]
        cells += [f"{result[key][name]:.2f}" for key in ("jensen_over", "jensen_defaults_over")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=int, default=20_000, help="data in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = images(arguments.data)
    result = measure(dataset, arguments.rounds)
    path = keep(
        "throughput",
        {
            "what": f"training of 784-400-z40-400-784, ReLU, Bernoulli, batch {BATCH}, float32",
            "data": dataset.name,
            "data_per_round": len(dataset),
            **result,
        },
    )
    print(table(result))
    print({name: round(value, 3) for name, value in result["products"].items()})
    print(f"written to {path}")


if __name__ == "__main__":
    main()
