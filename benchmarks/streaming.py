"""Training from shards on disk beside training from memory: the rate, and the memory while the data grow tenfold.

Needs no peers. The shards are random images, written into a temporary folder that is removed at the end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import in_turn, keep, kept, ratio
from contenders import BATCH, HIDDEN, LATENT, LEARNING_RATE, PIXELS, Epoch
from jensen.data import Dataset, Stored, stored
from jensen.recipes import RECIPES
from jensen.runs import fit
from jensen.runs.streams import batches
from jensen.seeding import seeded
from jensen.training import Alone, Settings, Training
from jensen.training.streams import BUFFER_BYTES

TARGETS = {"rate": 0.9, "growth": 1.05}
"""Least rate from disk over that from memory; most memory with ten times the data over that with the data."""
OPTIONS = {"latent_dim": LATENT, "hidden": (HIDDEN,), "batch_size": BATCH, "learning_rate": LEARNING_RATE}
SMALL: dict[str, Any] = {"latent_dim": 2, "hidden": (16,), "batch_size": BATCH, "epochs": 1}
"""A network that takes no memory and little time, where it is that of the data which counts."""
VALID = 1000
SHARD = 5_000
"""Rows of a shard where data grow: they grow by shards, as blocks end where a shard does."""
FORMS = ("uint8 .npy", "float32 .npy", "uint8 .parquet")


def write_shards(folder: Path, rows: int, form: str, count: int = 8) -> Path:
    """So many images of random binary pixels, in a few shards; real numbers for float32."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, n in enumerate(np.diff(np.linspace(0, rows, count + 1).astype(int))):
        x = (rng.random((n, PIXELS), np.float32) < 0.13).astype(np.uint8)
        if form == "float32 .npy":
            np.save(folder / f"{number}.npy", x + rng.standard_normal(x.shape, np.float32))
        elif form == "uint8 .npy":
            np.save(folder / f"{number}.npy", x)
        else:
            import polars

            frame = polars.DataFrame({f"pixel {i}": x[:, i] for i in range(PIXELS)})
            frame.write_parquet(folder / f"{number}.parquet", row_group_size=10_000)
    return folder


def epochs(data: Dataset | Stored) -> Epoch:
    """What a fit does in its steps, epoch by epoch, with jensen's defaults but for the architecture."""
    recipe = RECIPES["vae"]
    config = recipe.resolve(recipe.config({**OPTIONS, "epochs": 1000}), data.schema, len(data))
    x = data if isinstance(data, Stored) else torch.as_tensor(data.x).float()
    with seeded(0):
        model = recipe.assemble(config, data.schema, x)
    training = Training(
        recipe.objective(model, config),
        batches(data, BATCH, 0, Alone(torch.device("cpu"))),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
    )
    history = training.run()
    return lambda: next(history).rate


def rates(folder: Path, rows: int, rounds: int, forms: tuple[str, ...]) -> dict[str, Any]:
    """Data a second from memory and from disk, in turn."""
    contenders: dict[str, Callable[[], float]] = {}
    for form in forms:
        data = stored(write_shards(folder / form.replace(" ", "-"), rows, form))
        contenders[f"{form}, memory"] = epochs(data.load())
        contenders[f"{form}, disk"] = epochs(data)
    figures = in_turn(contenders, rounds)
    return {
        "data_per_second": {name: statistics.median(values) for name, values in figures.items()},
        "disk_over_memory": {form: ratio(figures, f"{form}, disk", f"{form}, memory") for form in forms},
        "rounds": figures,
    }


def peak(folder: Path, way: str) -> dict[str, float]:
    """Peak resident memory in MB of a process that opens, fits for an epoch, evaluates and encodes."""
    command = [sys.executable, __file__, "--child", str(folder), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(folder: Path, way: str) -> None:
    """What ``peak`` measures; prints the peak before the data are touched and at the end."""
    import resource

    from jensen.data import write_blocks
    from jensen.evaluation import evaluate, posterior_means
    from jensen.runs import prepared
    from jensen.training.engine import engine

    def megabytes() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    torch.set_num_threads(1)
    engine("cpu")
    before = megabytes()
    data: Dataset | Stored = stored(folder)
    if way == "memory":
        data = data.load()
    # Validation data are held in memory: the same number of them, however many there are to train on.
    run = fit(data, "vae", SMALL, valid=VALID / len(data))
    fitted = megabytes()
    evaluate(run.model, prepared(run, data), 1)
    means = (posterior_means(run.model, x).numpy() for x in prepared(run, data))
    write_blocks(folder.parent / "means.npy", means, len(data))
    print(json.dumps({"before": before, "fitted": fitted, "all": megabytes()}))


def memory(folder: Path, form: str) -> dict[str, Any]:
    """Peaks with data that fill the buffer they are mixed in three times, and with ten times as many."""
    found: dict[str, Any] = {}
    row_bytes = PIXELS * (4 if form == "float32 .npy" else 1)
    rows = int(3 * BUFFER_BYTES / row_bytes) // SHARD * SHARD
    for n in (rows, 10 * rows):
        shards = write_shards(folder / f"{n}", n, form, n // SHARD)
        found[f"{n} from disk"] = peak(shards, "disk")
        if n == rows:
            found[f"{n} from memory"] = peak(shards, "memory")
        found[f"{n} bytes"] = sum(path.stat().st_size for path in shards.iterdir())
        for path in shards.iterdir():
            path.unlink()
    small, large = found[f"{rows} from disk"], found[f"{10 * rows} from disk"]
    return {"peaks_in_megabytes": found, "growth": large["all"] / small["all"]}


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="images in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="of the data")
    parser.add_argument("--only", choices=("rate", "memory"), help="measure one of both, and keep the other")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(Path(arguments.child[0]), arguments.child[1])
        return
    torch.set_num_threads(arguments.threads)
    content = {key: value for key, value in kept("streaming").items() if key in ("rate", "memory")}
    content |= {
        "what": f"training of {PIXELS}-{HIDDEN}-z{LATENT}-{HIDDEN}-{PIXELS}, batch {BATCH}, float32, random images",
        "targets": TARGETS,
    }
    forms = tuple(arguments.forms)
    if arguments.only != "rate":
        for form in forms:
            with tempfile.TemporaryDirectory() as name:
                grown = memory(Path(name), form)
            content["memory"] = {**content.get("memory", {}), form: grown}
            peaks = grown["peaks_in_megabytes"]
            print(f"{form}: {grown['growth']:.3f} times the peak memory with ten times the data; {peaks}")
    if arguments.only != "memory":
        with tempfile.TemporaryDirectory() as name:
            speed = rates(Path(name), arguments.rows, arguments.rounds, forms)
        content["rate"] = {"rows": arguments.rows, **speed}
        for form, value in speed["disk_over_memory"].items():
            from_disk = speed["data_per_second"][f"{form}, disk"]
            print(f"{form}: {from_disk:,.0f} data/s from disk, {value:.3f} of the rate from memory")
    print(f"written to {keep('streaming', content)}")


if __name__ == "__main__":
    main()
