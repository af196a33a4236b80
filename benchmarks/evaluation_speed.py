"""Speed and memory of the NLL by importance sampling: jensen beside Pythae's ``get_nll``, with the same weights.

Run it with the peers' Python; with another one it measures jensen alone.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common import in_turn, keep, product_rate, ratio, timed
from contenders import HIDDEN, LATENT, PIXELS, as_pythae, assemble, have, images
from jensen import evaluation
from jensen.models import LatentVariableModel
from jensen.recipes import RECIPES
from jensen.training import ArrayBatches, Settings, Training

TARGETS = {"over_pythae": 2.0, "of_product_rate": 0.6, "peak_bytes": 2 * 2**30}
SAMPLE_FLOPS = 2 * (LATENT * HIDDEN + HIDDEN * PIXELS)
"""Of decoding one draw."""


def trained(n: int) -> LatentVariableModel:
    """A model after two epochs, so that its posterior is of some use as a proposal."""
    dataset = images(n)
    model, config = assemble(dataset, {"epochs": 2})
    settings = Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__})
    batches = ArrayBatches(torch.as_tensor(dataset.x), config.batch_size)
    for _ in Training(RECIPES["vae"].objective(model, config), batches, settings).run():
        pass
    return model.eval()


def jensen_rate(model: LatentVariableModel, x: Tensor, samples: int) -> Callable[[], float]:
    return lambda: len(x) / timed(lambda: evaluation.evidence(model, x, samples))


def pythae_rate(peer: Any, x: Tensor, samples: int, batch_size: int) -> Callable[[], float]:
    @torch.no_grad()
    def rate() -> float:
        return len(x) / timed(lambda: peer.get_nll(x, n_samples=samples, batch_size=batch_size))

    return rate


def agreement(model: LatentVariableModel, peer: Any, x: Tensor, samples: int) -> dict[str, float]:
    """Both libraries' mean log p(x) on the same images; Pythae returns it with the sign of a log-likelihood."""
    estimate = evaluation.evidence(model, x, samples)
    with torch.no_grad():
        theirs = float(peer.get_nll(x, n_samples=samples, batch_size=100))
    error = float(estimate.standard_error.square().sum().sqrt()) / len(x)
    ours = float(estimate.value.mean())
    return {
        "jensen_mean_log_p": ours,
        "pythae_get_nll": theirs,
        "difference": ours - theirs,
        "standard_error_of_difference": 2**0.5 * error,
    }


def measure(model: LatentVariableModel, n: int, samples: int, rounds: int) -> dict[str, Any]:
    """Images a second of each, and of the decoder's products alone."""
    x = torch.as_tensor(images(n, "test").x).float()
    racing: dict[str, Callable[[], float]] = {"jensen": jensen_rate(model, x, samples)}
    peer = as_pythae(model) if have("pythae") else None
    if peer is None:
        print("pythae is not installed here and is not measured; see benchmarks/README.md")
    else:
        few = x[: max(1, n // 4)]
        racing["pythae, batch 100"] = pythae_rate(peer, few, samples, 100)
        racing["pythae, one batch"] = pythae_rate(peer, few, samples, samples)
    racing["products alone"] = lambda: product_rate(1000, HIDDEN, PIXELS) / (samples * SAMPLE_FLOPS)
    figures = in_turn(racing, rounds)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    return {
        "images": n,
        "samples": samples,
        "images_per_second": medians,
        "jensen_over": {name: ratio(figures, "jensen", name) for name in figures},
        "gigaflops": {name: value * samples * SAMPLE_FLOPS / 1e9 for name, value in medians.items()},
        "agreement": None if peer is None else agreement(model, peer, x, samples),
        "rounds": figures,
    }


def peak_memory(threads: int, *, long: bool) -> dict[str, Any]:
    """Peak memory of a process of its own that evaluates; see ``evaluate_alone``."""
    command = [
        sys.executable,
        __file__,
        "--alone",
        "--threads",
        str(threads),
        *(["--memory-long"] if long else []),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def evaluate_alone(*, long: bool) -> None:
    """Evaluates 10,000 images with 5,000 samples, or one after the other as many images and as many samples."""
    test = images(10_000, "test")
    model, _ = assemble(test, {})
    x = torch.as_tensor(test.x).float()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    passes = [(10_000, 5000)] if long else [(10_000, 5), (16, 5000)]
    for n, samples in passes:
        evaluation.evaluate(model.eval(), x[:n], samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"passes": passes, "peak_bytes": peak * unit, "bytes_before": before * unit}))


def table(result: dict[str, Any]) -> str:
    lines = ["| | images/s | GFLOP/s | jensen is so many times as fast |", "|---|---:|---:|---:|"]
    for name, rate in result["images_per_second"].items():
        lines.append(
            f"| {name} | {rate:.2f} | {result['gigaflops'][name]:.1f} | {result['jensen_over'][name]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train", type=int, default=20_000, help="data to train on before")
    parser.add_argument(
        "--memory-long", action="store_true", help="peak memory at full size, which takes minutes"
    )
    parser.add_argument("--alone", action="store_true", help="only evaluate, for the peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.alone:
        evaluate_alone(long=arguments.memory_long)
        return
    result = measure(trained(arguments.train), arguments.images, arguments.samples, arguments.rounds)
    result["memory"] = peak_memory(arguments.threads, long=arguments.memory_long)
    path = keep(
        "evaluation_speed",
        {"what": "NLL by importance sampling, 784-400-z40-400-784, float32", "targets": TARGETS, **result},
    )
    print(table(result))
    print(result["agreement"])
    print(f"peak memory {result['memory']['peak_bytes'] / 2**20:.0f} MiB; written to {path}")


if __name__ == "__main__":
    main()
