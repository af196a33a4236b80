"""Laplace's approximation of a last layer with Kronecker factors, beside laplace-torch's, on the same weights and data.

Run it with the peers' Python, where laplace-torch is installed (and the torchvision that it pulls is not); elsewhere
jensen is measured alone. The network is taken as trained: fit means the curvature and its eigenvalues, with the prior's
precision given; predict means class probabilities of one input by the probit approximation.
"""

import argparse
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import jensen as jn
from common import in_turn, keep, ratio, timed
from jensen.weights.laplace import LaplacePosterior

TARGET = 100.0
PREDICT_SECONDS, PREDICT_BYTES = 0.01, 50e6


def peak_growth(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a piece of work, and by how many bytes the process grew at most while it ran."""
    pages = Path("/proc/self/statm")

    def resident() -> int:
        return int(pages.read_text().split()[1]) * 4096

    before, most, stop = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.is_set():
            most = max(most, resident())
            stop.wait(0.0005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        seconds = timed(work)
    finally:
        stop.set()
        thread.join()
    return seconds, max(0.0, float(max(most, resident()) - before))


def made(n: int, features: int, classes: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network with a last layer of that size, and random data."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, features), nn.ReLU(), nn.Linear(features, classes)).eval()
    return network, torch.randn(n, 32), torch.randint(classes, (n,))


def ours(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
    """Fit and predict with jensen."""
    found: dict[str, LaplacePosterior] = {}

    def fit() -> None:
        posterior = jn.weights.fit(
            network,
            x,
            y,
            method="laplace",
            likelihood="categorical",
            subset="last-layer",
            prior_scale=1.0,
            epochs=0,
            polish=0,
            rounds=1,
        )
        assert isinstance(posterior, LaplacePosterior)
        found["posterior"] = posterior

    return fit, lambda: found["posterior"].predict(x[:1], link="probit").mean


def peers(
    network: nn.Module, x: Tensor, y: Tensor
) -> tuple[Callable[[], object], Callable[[], object]] | None:
    """Fit and predict with laplace-torch; None where it isn't installed."""
    try:
        from laplace import Laplace
    except ImportError:
        return None
    found: dict[str, Any] = {}

    def fit() -> None:
        posterior = Laplace(
            network,
            "classification",
            subset_of_weights="last_layer",
            hessian_structure="kron",
            prior_precision=1.0,
        )
        posterior.fit(DataLoader(TensorDataset(x, y), batch_size=100))
        found["posterior"] = posterior

    return fit, lambda: found["posterior"](x[:1], link_approx="probit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a layer of 128 x 100, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    features, classes, n = (128, 100, 500) if options.quick else (512, 1000, 1000)
    rounds = 1 if options.quick else options.rounds
    network, x, y = made(n, features, classes)
    contenders = {"jensen": ours(network, x, y), "laplace-torch": peers(network, x, y)}
    present = {name: pair for name, pair in contenders.items() if pair is not None}
    fits = in_turn({name: lambda p=pair: timed(p[0]) for name, pair in present.items()}, rounds)
    memory: dict[str, list[float]] = {name: [] for name in present}

    def predict(name: str, work: Callable[[], object]) -> float:
        seconds, grown = peak_growth(work)
        memory[name].append(grown)
        return seconds

    predicts = in_turn(
        {name: lambda n=name, p=pair: predict(n, p[1]) for name, pair in present.items()}, rounds
    )
    result: dict[str, Any] = {
        "layer": [features, classes],
        "data": n,
        "rounds": rounds,
        "fit_seconds": fits,
        "predict_seconds": predicts,
        # The first prediction is the one that allocates.
        "predict_bytes": {name: max(grown) for name, grown in memory.items()},
        "targets": {"ratio": TARGET, "predict_seconds": PREDICT_SECONDS, "predict_bytes": PREDICT_BYTES},
    }
    for name in present:
        print(
            f"{name}: fit {statistics.median(fits[name]):.3f} s, predict one "
            f"{1000 * statistics.median(predicts[name]):.2f} ms, {max(memory[name]) / 1e6:.1f} MB more"
        )
    if "laplace-torch" in present:
        both = {name: [a + b for a, b in zip(fits[name], predicts[name], strict=True)] for name in present}
        result["ratios"] = {
            "fit": ratio(fits, "laplace-torch", "jensen"),
            "predict": ratio(predicts, "laplace-torch", "jensen"),
            "both": ratio(both, "laplace-torch", "jensen"),
        }
        print("laplace-torch / jensen:", {name: round(value, 1) for name, value in result["ratios"].items()})
    print(keep("laplace_speed_quick" if options.quick else "laplace_speed", result))


if __name__ == "__main__":
    main()
