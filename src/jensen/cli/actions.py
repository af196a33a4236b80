"""What the commands do: read, call the library, write, print."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jensen import evaluation, runs
from jensen.cli.output import show
from jensen.cli.progress import FitBar, counting
from jensen.data import KNOWN, Dataset, load, read, write
from jensen.errors import ConfigError, ShapeError
from jensen.recipes import RECIPES
from jensen.runs import Run
from jensen.seeding import seeded

DEMO = {"hidden": (256,), "latent_dim": 16, "epochs": 300, "batch_size": 50}


def fit(
    data: str,
    model: str,
    out: Path,
    options: Mapping[str, Any],
    *,
    valid: str | None,
    resume: bool,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> Run:
    """Fits a recipe to data and keeps it in a folder."""
    exact = RECIPES[model].solve is not None
    train = load(data, target=target, exact=exact)
    with FitBar() as bar:
        run = runs.fit(
            train,
            model,
            options,
            valid=_validation(data, train, valid, target, exact=exact),
            seed=seed,
            device=device,
            folder=out,
            resume=resume,
            watcher=bar,
        )
    last = run.history[-1]
    result = {
        "run": str(out),
        "model": model,
        "data": run.about["data"],
        "likelihood": getattr(run.config, "likelihood", None),
        "status": last["status"],
        "epochs": last["epoch"],
        "seconds": sum(record["seconds"] for record in run.history),
        "elbo": last["train"].get("elbo"),
        "skipped_steps": last["skipped"],
    }
    checked = [record["valid"] for record in run.history if record["valid"] is not None]
    if checked:
        result["best_valid_elbo"] = max(record["elbo"] for record in checked)
        result["valid_standard_error"] = checked[-1]["standard_error"]
    show(result, as_json, "fit")
    return run


def evaluate(
    folder: Path, data: str, samples: int, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Evaluates a Run on data and keeps the numbers with it."""
    run, dataset, x = _open(folder, data, target, seed, device)
    with counting("evaluating", len(x)) as count:
        numbers = evaluation.evaluate(run.model, x, samples, seed=seed, memory=_memory(x), on_data=count)
    record = {"data": dataset.name, "seed": seed, **numbers}
    run.add_evaluation(record)
    show(record, as_json, f"{folder} on {dataset.name}; nats a datum unless it says otherwise")


def sample(folder: Path, n: int, out: Path, *, seed: int, device: str, as_json: bool) -> None:
    """Draws new data."""
    run = Run.load(folder, device)
    with seeded(seed):
        drawn = run.model.sample(n)
    if run.schema.kind in ("binary", "uint8") and getattr(run.config, "likelihood", "normal") != "normal":
        drawn = drawn.to(torch.uint8)
    _write(out, drawn, as_json, columns=run.schema.columns)


def encode(
    folder: Path, data: str, out: Path, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Writes the posterior means of data."""
    run, _, x = _open(folder, data, target, seed, device)
    if hasattr(run.model, "responsibilities"):
        codes = run.model.responsibilities(x)
    elif hasattr(run.model, "states"):
        codes = run.model.states(x)
    else:
        codes = evaluation.posterior_means(run.model, x)
    _write(out, codes, as_json)


def decode(folder: Path, latents: Path, out: Path, *, seed: int, device: str, as_json: bool) -> None:
    """Writes the expected data of latents."""
    run = Run.load(folder, device)
    _needs(run, "decode", "latents that are numbers")
    z = torch.as_tensor(read(latents).x).to(run.device, next(run.model.parameters()).dtype)
    if z.ndim != 2 or z.shape[1] != run.config.latent_dim:
        raise ShapeError(
            f"{latents} should hold latents of shape (n, {run.config.latent_dim}), got {tuple(z.shape)}; "
            "write them with 'jensen encode'"
        )
    with torch.inference_mode():
        means = torch.cat([run.model.decode(some).mean for some in z.split(512)])
    _write(out, means, as_json, columns=run.schema.columns)


def score(
    folder: Path,
    data: str,
    samples: int,
    out: Path,
    *,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Writes log p(x) of each datum and its standard error."""
    run, _, x = _open(folder, data, target, seed, device)
    if hasattr(run.model, "log_prob"):
        values = run.model.log_prob(x)
        csv = out.suffix.lower() == ".csv"
        both = torch.stack([values, torch.zeros_like(values)], 1)
        _write(out, both if csv else values, as_json, columns=("log_prob", "standard_error") if csv else None)
        return
    with counting("scoring", len(x)) as count:
        result = evaluation.importance_pass(
            run.model, x, samples, seed=seed, memory=_memory(x), on_data=count
        )
    columns = ("log_prob", "standard_error")
    both = torch.stack([result.evidence, result.standard_error], 1)
    if out.suffix.lower() == ".csv":
        _write(out, both, as_json, columns=columns)
    else:
        _write(out, result.evidence, as_json)


def reconstruct(
    folder: Path, data: str, out: Path, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Writes what comes back of data from their posterior means."""
    run, _, x = _open(folder, data, target, seed, device)
    _needs(run, "decode", "latents that are numbers")
    _write(out, evaluation.reconstructions(run.model, x), as_json, columns=run.schema.columns)


def impute(
    folder: Path, data: str, out: Path, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Writes data whose missing cells hold their conditional means; observed cells stay as they are."""
    run, _, x = _open(folder, data, target, seed, device)
    _needs(run, "impute", "conditional means of missing cells")
    missing = int(x.isnan().sum())
    _write(out, run.model.impute(x), as_json, columns=run.schema.columns, missing_cells=missing)


def report(
    folder: Path, data: str | None, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Writes the report of a Run."""
    from jensen.report import write as write_report

    run = Run.load(folder, device)
    exact = RECIPES[run.recipe].solve is not None
    given = None if data is None else load(data, "test", target=target, exact=exact)
    path = write_report(run, given, seed=seed)
    show({"report": str(path)}, as_json)


def demo(out: Path, *, seed: int, device: str, as_json: bool) -> None:
    """Fits, evaluates and reports on embedded data."""
    from jensen.report import write as write_report

    resume = (out / "config.json").exists()
    with FitBar() as bar:
        run = runs.fit(
            load("digits"),
            "vae",
            DEMO,
            valid=load("digits", "valid"),
            seed=seed,
            device=device,
            folder=out,
            resume=resume,
            watcher=bar,
        )
    test = load("digits", "test")
    x = run.prepare(test, seed)
    with counting("evaluating", len(x)) as count:
        numbers = evaluation.evaluate(run.model, x, 1000, seed=seed, memory=_memory(x), on_data=count)
    run.add_evaluation({"data": test.name, "seed": seed, **numbers})
    path = write_report(run, test, seed=seed)
    names = ("elbo", "nll", "nll_standard_error", "nll_test_standard_error", "bits_per_dim", "gap", "n")
    result = {name: numbers[name] for name in names}
    show({"data": test.name, **result, "run": str(out), "report": str(path)}, as_json, "handwritten digits")


def _open(
    folder: Path, data: str, target: str | int | None, seed: int, device: str
) -> tuple[Run, Dataset, Tensor]:
    """A Run and data that match it; of a known set its test split unless another is named."""
    run = Run.load(folder, device)
    dataset = load(data, "test", target=target, exact=RECIPES[run.recipe].solve is not None)
    return run, dataset, run.prepare(dataset, seed)


def _validation(
    data: str, train: Dataset, valid: str | None, target: str | int | None, *, exact: bool
) -> Dataset | float | None:
    if valid is None:
        if exact:
            return None
        if data in KNOWN and "valid" in KNOWN[data].splits:
            return load(data, "valid")
        return 0.1 if len(train) >= 50 else None
    try:
        fraction = float(valid)
    except ValueError:
        return load(valid, "valid", target=target, exact=exact)
    if not 0 <= fraction < 1:
        raise ConfigError(f"--valid wants data, or a part of the data between 0 and 1; got {valid}")
    return fraction or None


def _needs(run: Run, method: str, what: str) -> None:
    if not hasattr(run.model, method):
        raise ConfigError(f"the model {run.recipe} has no {what}; see 'jensen models' for one that has")


def _memory(x: Tensor) -> int:
    """On a GPU, chunks that fill it; on a CPU, chunks that fit its cache."""
    return 2**31 if x.is_cuda else evaluation.MEMORY


def _write(
    out: Path, values: Tensor, as_json: bool, columns: tuple[str, ...] | None = None, **facts: int
) -> None:
    array = values.cpu().numpy()
    if out.suffix.lower() == ".csv" and array.ndim > 2:
        array = array.reshape(len(array), prod(array.shape[1:]))
    write(out, array, columns=columns if columns is not None and array.ndim == 2 else None)
    show({"out": str(out), "shape": list(array.shape), **facts}, as_json)
