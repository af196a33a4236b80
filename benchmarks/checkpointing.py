"""What checkpointing saves: the most that a step of training holds at once, and its time, for deep networks."""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common import keep, most_at_once, timed
from jensen.nets import ARCHITECTURES, Checkpointed

NETWORKS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "residual-mlp, 24 blocks of 512": ("residual-mlp", (784,), {"width": 512, "blocks": 24, "dropout": 0.1}),
    "mlp, 24 layers of 512": ("mlp", (784,), {"hidden": (512,) * 24}),
    "residual, channels 32 and 64": ("residual", (1, 28, 28), {"channels": (32, 64)}),
}
WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda network: network,
    "all at once": lambda network: Checkpointed(network, whole=True),
    "by segments": Checkpointed,
}


def step(network: nn.Module, x: Tensor) -> None:
    network(x).square().sum().backward()


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=int, default=500, help="data in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for title, (name, shape, options) in NETWORKS.items():
        x = torch.randn(arguments.data, *shape)
        networks = {
            way: change(ARCHITECTURES[name].encoder(shape, (2, 32), **options))
            for way, change in WAYS.items()
        }
        for network in networks.values():
            step(network, x)
        times = {way: list[float]() for way in WAYS}
        for _ in range(arguments.rounds):
            for way, network in networks.items():
                times[way].append(timed(lambda network=network, x=x: step(network, x)))
        found[title] = {
            way: {
                "megabytes": most_at_once(lambda network=network, x=x: step(network, x)) / 1e6,
                "seconds": statistics.median(times[way]),
            }
            for way, network in networks.items()
        }
        print(title)
        for way, figures in found[title].items():
            print(f"    {way:14}{figures['megabytes']:9.1f} MB{figures['seconds']:9.3f} s")
    path = keep(
        "checkpointing",
        {
            "what": f"most memory at once and time of a step, batch {arguments.data}, float32",
            "networks": found,
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
