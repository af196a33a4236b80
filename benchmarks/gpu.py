"""A GPU's speed: steps captured as CUDA graphs beside eager ones and Pythae's, and a large network's beside products.

`--device cpu` goes through the same motions without a GPU, to see that this script works; nothing is kept then.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from common import in_turn, keep, ratio
from contenders import have, images, jensen, pythae
from jensen.data import Dataset, Schema
from jensen.recipes import RECIPES
from jensen.seeding import seeded
from jensen.training import ArrayBatches, Progress, Settings, Training

TARGETS = {"captured_over_eager": 5.0, "captured_over_pythae": 10.0, "share_of_products": 0.4}


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def small(data: int, rounds: int, device: str) -> dict[str, Any]:
    """784-400-40 at batch 100: data a second, in turn."""
    dataset = images(data)
    contenders: dict[str, Callable[[], float]] = {
        "captured": jensen(dataset, {}, device=device),
        "eager": jensen(dataset, {"capture": "off"}, device=device),
    }
    if have("pythae"):
        contenders["pythae"] = pythae(dataset, device=device)
    figures = in_turn(contenders, rounds)
    return {
        "data_per_second": {name: statistics.median(values) for name, values in figures.items()},
        **{
            f"captured_over_{name}": ratio(figures, "captured", name)
            for name in contenders
            if name != "captured"
        },
        "rounds": figures,
    }


def product_rate(size: int, device: str, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Floating-point operations a second of large square matrix products."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    wait(device)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            a @ b
        wait(device)
        count += 10
    return 2.0 * size**3 * count / (time.perf_counter() - start)


def large(batch: int, channels: tuple[int, ...], side: int, steps: int, device: str) -> dict[str, Any]:
    """A residual convolutional VAE in bf16: operations a second of its steps over those of matrix products."""
    x = (np.random.default_rng(0).random((4 * batch, 3, side, side)) * 255).astype(np.uint8)
    dataset = Dataset(x, Schema((3, side, side), "uint8"), name="random")
    recipe = RECIPES["vae"]
    options = {"network": "residual", "channels": channels, "precision": "bf16-mixed", "batch_size": batch}
    config = recipe.resolve(
        recipe.config({**options, "latent_dim": 64, "epochs": 10_000}), dataset.schema, len(x)
    )
    with seeded(0):
        model = recipe.assemble(config, dataset.schema, torch.as_tensor(x[:10]).float())
    training = Training(
        recipe.objective(model, config).to(device),
        ArrayBatches(torch.as_tensor(x).to(device), batch),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
    )
    training.objective.train()
    counted = next(training.batches.epoch(0))
    with FlopCounterMode(display=False) as counter:
        training.objective(counted, Progress(0, 0.0, 0.0))[0].backward()
    operations = counter.get_total_flops()
    history = training.run()
    rates: list[float] = []
    for number in range(2 + -(-steps // 4)):
        rate = next(history).rate
        if number > 1:
            rates.append(rate)
    wait(device)
    peak = product_rate(8192 if device == "cuda" else 512, device, torch.bfloat16)
    achieved = statistics.median(rates) / batch * operations
    return {
        "batch": batch,
        "channels": list(channels),
        "side": side,
        "operations_per_step": operations,
        "data_per_second": statistics.median(rates),
        "operations_per_second": achieved,
        "product_rate": peak,
        "share_of_products": achieved / peak,
    }


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu only tries the script")
    result = {
        "what": "784-400-z40-400-784 at batch 100, and a residual convolutional VAE in bf16",
        "targets": TARGETS,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "small": small(arguments.data, arguments.rounds, device),
        "large": large(arguments.batch, tuple(arguments.channels), arguments.side, arguments.steps, device),
    }
    for part in ("small", "large"):
        for name, value in result[part].items():
            if name != "rounds":
                print(part, name, value)
    if device == "cuda":
        print(f"written to {keep('gpu', result)}")


if __name__ == "__main__":
    main()
