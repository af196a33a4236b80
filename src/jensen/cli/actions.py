"""What the commands do: read, call the library, write, print."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from jensen import evaluation, runs
from jensen.cli.output import show
from jensen.cli.progress import FitBar, counting, stages
from jensen.data import KNOWN, Dataset, Stored, exceeds_memory, load, read, stored, take, write_blocks
from jensen.data.subsets import permutation
from jensen.errors import ConfigError, DataError, RunError, ShapeError
from jensen.recipes import RECIPES
from jensen.runs import Run, default_fraction, prepared, read_recipe, was_streamed
from jensen.seeding import seeded

DEMO = {"hidden": (256,), "latent_dim": 16, "epochs": 300, "batch_size": 50, "learning_rate": 2e-3}


def fit(
    data: str,
    model: str,
    out: Path,
    options: Mapping[str, Any],
    *,
    valid: str | None,
    resume: bool,
    stream: bool | None,
    logs: Sequence[str],
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> Run:
    """Fits a recipe to data and keeps it in a folder."""
    exact = RECIPES[model].solve is not None
    labelled = RECIPES[model].targets is not None
    extra = loggers(logs)
    if resume and stream is None:
        stream = was_streamed(out)
    read = whole if labelled else partial(obtain, exact=exact)
    train = read(data, "train", target, stream)
    with FitBar() as bar:
        run = runs.fit(
            train,
            model,
            options,
            valid=validation(data, train, valid, target, exact=exact),
            seed=seed,
            device=device,
            folder=out,
            resume=resume,
            watcher=runs.Several(bar, *extra) if extra else bar,
        )
    last = run.history[-1]
    result = {
        "run": str(out),
        "model": model,
        "data": run.about["data"],
        "streamed": run.about.get("stream") is not None,
        "likelihood": run.likelihood,
        "status": last["status"],
        "epochs": last["epoch"],
        "seconds": sum(record["seconds"] for record in run.history),
        # An epoch that was interrupted before its first step has no numbers.
        "elbo": next((r["train"]["elbo"] for r in reversed(run.history) if "elbo" in r["train"]), None),
        "skipped_steps": last["skipped"],
    }
    note = last.get("note", run.constant)
    if note is not None:
        result["note"] = note
    best = [record["valid"] for record in run.history if record["best"] and record["valid"] is not None]
    if labelled:
        del result["elbo"], result["skipped_steps"]
        # Some methods record a bound in place of a loss, or nothing.
        result |= {"method": run.config.method, "loss": None, **last["train"]}
        if run.about["n_valid"]:
            result["valid"] = run.evaluations[-1] if run.evaluations else None
    if best:
        result |= {f"best_valid_{name}": best[-1][name] for name in ("elbo", "bound") if name in best[-1]}
        result["valid_standard_error"] = best[-1]["standard_error"]
    show(result, as_json, "fit")
    return run


def evaluate(
    folder: Path,
    data: str,
    samples: int | None,
    *,
    stream: bool | None,
    gap_data: int | None,
    unknown: str | None,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Evaluates a Run on data and keeps the numbers with it; the gap on some of them, if a number is given."""
    if RECIPES[recipe_of(folder)].targets is not None:
        _judge(folder, data, samples, stream, gap_data, unknown, target, seed, device, as_json=as_json)
        return
    if unknown is not None:
        raise ConfigError(
            "--unknown asks how well the uncertainty of predicted labels finds unknown data, and this Run predicts "
            "none; hold 'jensen score' of both data sets against each other"
        )
    run, dataset = _open(folder, data, target, device, stream)
    samples = 5000 if samples is None else samples
    if gap_data is not None and hasattr(run.model, "log_prob"):
        raise ConfigError(
            f"the density of the model {run.recipe} is exact, so there is no gap to take apart; leave --gap out"
        )
    with counting("evaluating", len(dataset)) as count:
        numbers = evaluation.evaluate(
            run.model, prepared(run, dataset, seed), samples, seed=seed, memory=_memory(run), on_data=count
        )
    if gap_data is not None:
        some = run.prepare(_some(dataset, gap_data, seed), seed)
        with stages() as stage:
            numbers |= evaluation.evaluate_gap(
                run.model, some, len(some), seed=seed, memory=_memory(run), on_stage=stage
            )
    record = {"data": dataset.name, "seed": seed, **numbers}
    run.add_evaluation(record)
    if not math.isfinite(cast("float", numbers["nll"])):
        record["note"] = (
            "log p(x) of some data is no finite number, as of outliers far from the training data; 'jensen score' says "
            "of which: leave them out, or rescale them as the training data"
        )
    show(record, as_json, f"{folder} on {dataset.name}; nats a datum unless it says otherwise")


def _judge(
    folder: Path,
    data: str,
    samples: int | None,
    stream: bool | None,
    gap_data: int | None,
    unknown: str | None,
    target: str | int | None,
    seed: int,
    device: str,
    *,
    as_json: bool,
) -> None:
    """Evaluates a Run that predicts labels."""
    if gap_data is not None:
        raise ConfigError("--gap belongs to models with a bound on log p(x), and this one predicts labels")
    run = Run.load(folder, device)
    dataset = labelled(run, data, target, stream)
    other = None if unknown is None else labelled(run, unknown, target, stream, needed=False)
    numbers = runs.judge(run, dataset, unknown=other, samples=samples, seed=seed)
    record = {"data": dataset.name, "seed": seed, **numbers}
    if other is not None:
        record["unknown_data"] = other.name
    run.add_evaluation(record)
    show(record, as_json, f"{folder} on {dataset.name}")


def predict(
    folder: Path,
    data: str,
    out: Path,
    samples: int | None,
    *,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Writes what a classifier or regressor says of data, one row a datum."""
    if RECIPES[recipe_of(folder)].targets is None:
        raise ConfigError(
            f"the model {recipe_of(folder)} predicts no labels; see 'jensen models' for one that does"
        )
    run = Run.load(folder, device)
    dataset = labelled(run, data, target, None, needed=False)
    found = runs.predict(run, dataset, samples, seed)
    whole_doubt, epistemic = (None if d is None else torch.as_tensor(d) for d in runs.doubts(run, found))
    assert whole_doubt is not None, "there always is"
    if RECIPES[run.recipe].targets == "classes":
        parts = [torch.as_tensor(runs.probabilities(found)), whole_doubt[:, None]]
        names = [*(f"p_{label}" for label in run.about["classes"]), "entropy"]
        last = "mutual_information"
    else:
        ends = found.quantiles([0.05, 0.95]).double().cpu()
        mean, std = found.mean.double().cpu(), found.std.double().cpu()
        ends = ends.reshape(2, len(mean), -1)
        parts = [mean.reshape(len(mean), -1), std.reshape(len(mean), -1), ends[0], ends[1]]
        places = [f"_{target + 1}" for target in range(ends.shape[2])] if ends.shape[2] > 1 else [""]
        names = [
            f"{name}{place}" for name in ("mean", "std", "quantile_05", "quantile_95") for place in places
        ]
        last = "epistemic_std"
    if epistemic is not None:
        parts, names = [*parts, epistemic[:, None]], [*names, last]
    _write(out, [torch.cat(parts, 1)], len(dataset), as_json, columns=tuple(names))


def sample(folder: Path, n: int, out: Path, *, seed: int, device: str, as_json: bool) -> None:
    """Draws new data."""
    run = _density(folder, device)
    with seeded(seed):
        drawn = run.model.sample(n)
    if run.schema.kind in ("binary", "uint8") and getattr(run.config, "likelihood", "normal") != "normal":
        drawn = drawn.to(torch.uint8)
    _write(out, [drawn], n, as_json, columns=run.schema.columns)


def encode(
    folder: Path,
    data: str,
    out: Path,
    *,
    stream: bool | None,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Writes the posterior means of data, or the probabilities of their components or states."""
    run, dataset = _open(folder, data, target, device, stream)
    _write(out, (_codes(run.model, x) for x in prepared(run, dataset, seed)), len(dataset), as_json)


def decode(folder: Path, latents: Path, out: Path, *, seed: int, device: str, as_json: bool) -> None:
    """Writes the expected data of latents, or of probabilities of components or states."""
    run = _density(folder, device)
    exact = RECIPES[run.recipe].solve is not None
    z = torch.as_tensor(read(latents, exact=exact).x).to(run.device, next(run.model.parameters()).dtype)
    if hasattr(run.model, "expected"):
        _write(out, [run.model.expected(z)], len(z), as_json, columns=run.schema.columns)
        return
    if z.ndim != 2 or z.shape[1] != run.config.latent_dim:
        raise ShapeError(
            f"{latents} should hold latents of shape (n, {run.config.latent_dim}), got {tuple(z.shape)}; "
            "write them with 'jensen encode'"
        )
    with torch.inference_mode():
        means = torch.cat([run.model.decode(some).mean for some in z.split(512)])
    _write(out, [means], len(means), as_json, columns=run.schema.columns)


def score(
    folder: Path,
    data: str,
    samples: int,
    out: Path,
    *,
    stream: bool | None,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Writes log p(x) of each datum and, in a .csv, its standard error."""
    run, dataset = _open(folder, data, target, device, stream)
    both = out.suffix.lower() == ".csv"

    def scores() -> Iterator[Tensor]:
        for number, x in enumerate(prepared(run, dataset, seed)):
            if hasattr(run.model, "log_prob"):
                value = run.model.log_prob(x)
                error = torch.zeros_like(value)
                count(len(x))
            else:
                draws = evaluation.part_seed(seed, number)
                result = evaluation.importance_pass(
                    run.model, x, samples, seed=draws, memory=_memory(run), on_data=count
                )
                value, error = result.evidence, result.standard_error
            yield torch.stack([value, error], 1) if both else value

    columns = ("log_prob", "standard_error") if both else None
    with counting("scoring", len(dataset)) as count:
        shape = _put(out, scores(), len(dataset), columns)
    show({"out": str(out), "shape": list(shape)}, as_json)


def reconstruct(
    folder: Path,
    data: str,
    out: Path,
    *,
    stream: bool | None,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Writes what comes back of data from what ``encode`` makes of them."""
    run, dataset = _open(folder, data, target, device, stream)
    model = run.model
    if hasattr(model, "expected"):
        returned = (model.expected(_codes(model, x)) for x in prepared(run, dataset, seed))
    else:
        returned = (evaluation.reconstructions(model, x) for x in prepared(run, dataset, seed))
    _write(out, returned, len(dataset), as_json, columns=run.schema.columns)


def impute(
    folder: Path, data: str, out: Path, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Writes data whose missing cells hold their conditional means; observed cells stay as they are."""
    run = _density(folder, device)
    _needs(run, "impute", "conditional means of missing cells")
    x = run.prepare(load(data, "test", target=target, exact=True), seed)
    missing = int(x.isnan().sum())
    _write(out, [run.model.impute(x)], len(x), as_json, columns=run.schema.columns, missing_cells=missing)


def report(
    folder: Path, data: str | None, *, target: str | int | None, seed: int, device: str, as_json: bool
) -> None:
    """Writes the report of a Run."""
    from jensen.report import write as write_report

    run = Run.load(folder, device)
    exact = RECIPES[run.recipe].solve is not None
    if data is None:
        given = None
    elif RECIPES[run.recipe].targets is not None:
        given = labelled(run, data, target, None)
    else:
        given = load(data, "test", target=target, exact=exact)
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
        numbers = evaluation.evaluate(run.model, x, 1000, seed=seed, memory=_memory(run), on_data=count)
    run.add_evaluation({"data": test.name, "seed": seed, **numbers})
    path = write_report(run, test, seed=seed)
    names = ("elbo", "nll", "nll_standard_error", "nll_test_standard_error", "bits_per_dim", "gap", "n")
    result = {name: numbers[name] for name in names}
    show({"data": test.name, **result, "run": str(out), "report": str(path)}, as_json, "handwritten digits")


def obtain(
    data: str, split: str, target: str | int | None, stream: bool | None, *, exact: bool = False
) -> Dataset | Stored:
    """The data that a command was given, in memory or left on disk.

    Args:
        data: A path or a known name.
        split: Of a known data set.
        target: Column of labels.
        stream: Whether to leave them on disk; None: if they would take too much of the free memory.
        exact: Whether cells may be missing and float64 is kept of data in memory, as exact models want.

    Returns:
        The data.

    Raises:
        ConfigError: If a known data set should be left on disk.
        DataError: If the data can't be used.
    """
    if data.partition(":")[0] in KNOWN:
        if stream:
            raise ConfigError(f"{data} is a known data set, which is read into memory; leave --stream out")
        return load(data, split, target=target, exact=exact)
    if stream is None:
        stream = exceeds_memory(data, target=target)
    if not stream:
        return load(data, split, target=target, exact=exact)
    with counting("looking at the data", None) as count:
        return stored(data, target=target, on_data=count)


def whole(data: str, split: str, target: str | int | None, stream: bool | None) -> Dataset:
    """The data of a command that needs all of them in memory; see ``obtain``.

    Raises:
        ConfigError: If they should be left on disk.
        DataError: If the data can't be used.
    """
    if stream:
        raise ConfigError("this model is fitted with all data in memory; leave --stream out")
    return load(data, split, target=target)


def recipe_of(folder: Path) -> str:
    """The name of a Run's recipe, without loading its weights.

    Raises:
        RunError: If the folder is no Run.
    """
    name = read_recipe(folder)
    if name not in RECIPES:
        raise RunError(f"{folder} is a Run of the model '{name}', which this version doesn't know")
    return name


def labelled(
    run: Run, data: str, target: str | int | None, stream: bool | None, *, needed: bool = True
) -> Dataset:
    """Data for a Run that predicts labels; where none is named, the labels' column is that of the fit.

    Args:
        run: The Run.
        data: A path or a known name.
        target: Column of labels.
        stream: Whether to leave the data on disk, which can't be.
        needed: Whether labels are; where they aren't, a table may lack their column.
    """
    column = run.about.get("target") if target is None else target
    if column is None or data.partition(":")[0] in KNOWN or Path(data).suffix == ".npz":
        return whole(data, "test", target, stream)
    try:
        return whole(data, "test", column, stream)
    except DataError as error:
        # Another fault than a column that isn't there would only be hidden by what comes of reading it as data.
        absent = "has no column" in str(error) and "for the labels" in str(error)
        if needed or target is not None or not absent:
            raise
        return whole(data, "test", None, stream)


def _open(
    folder: Path, data: str, target: str | int | None, device: str, stream: bool | None
) -> tuple[Run, Dataset | Stored]:
    """A Run and data for it; of a known set its test split unless another is named."""
    run = _density(folder, device)
    return run, obtain(data, "test", target, stream, exact=RECIPES[run.recipe].solve is not None)


def _density(folder: Path, device: str) -> Run:
    """A Run whose model is a density of data.

    Raises:
        ConfigError: If it predicts labels.
    """
    if RECIPES[recipe_of(folder)].targets is not None:
        raise ConfigError(
            f"the model {recipe_of(folder)} predicts labels and is no density of data; use jensen predict, evaluate "
            "or report"
        )
    return Run.load(folder, device)


def _some(dataset: Dataset | Stored, n: int, seed: int) -> Dataset:
    """Some of the data, at random."""
    if isinstance(dataset, Stored):
        return dataset.some(n, seed)
    return take(dataset, permutation(len(dataset), seed)[:n])


def loggers(names: Sequence[str]) -> list[runs.Watcher]:
    """A new logger of each name; named twice, it is there once."""
    return [runs.LOGGERS[name]() for name in dict.fromkeys(names)]


def validation(
    data: str, train: Dataset | Stored, valid: str | None, target: str | int | None, *, exact: bool = False
) -> Dataset | Stored | float | None:
    """The validation data: the known set's own, what was asked for, or a tenth; exact models need none."""
    if valid is None:
        if exact:
            return None
        if data in KNOWN and "valid" in KNOWN[data].splits:
            return load(data, "valid")
        return default_fraction(len(train), streamed=isinstance(train, Stored))
    try:
        fraction = float(valid)
    except ValueError:
        return obtain(valid, "valid", target, None, exact=exact)
    if not 0 <= fraction < 1:
        raise ConfigError(f"--valid wants data, or a part of the data between 0 and 1; got {valid}")
    return fraction or None


def _codes(model: Any, x: Tensor) -> Tensor:
    """What a model makes of data: probabilities of components or states, else posterior means."""
    if hasattr(model, "responsibilities"):
        return model.responsibilities(x)
    return model.states(x) if hasattr(model, "states") else evaluation.posterior_means(model, x)


def _needs(run: Run, method: str, what: str) -> None:
    if not hasattr(run.model, method):
        raise ConfigError(f"the model {run.recipe} has no {what}; see 'jensen models' for one that has")


def _memory(run: Run) -> int:
    """On a GPU, chunks that fill it; on a CPU, chunks that fit its cache."""
    return 2**31 if run.device.type == "cuda" else evaluation.MEMORY


def _write(
    out: Path,
    parts: Iterable[Tensor],
    n: int,
    as_json: bool,
    columns: tuple[str, ...] | None = None,
    **facts: int,
) -> None:
    """Writes rows that come in parts, and says where."""
    show({"out": str(out), "shape": list(_put(out, parts, n, columns)), **facts}, as_json)


def _put(out: Path, parts: Iterable[Tensor], n: int, columns: tuple[str, ...] | None) -> tuple[int, ...]:
    """Writes rows that come in parts; their shape. A table has no more than two axes."""
    flat = out.suffix.lower() == ".csv"
    arrays = (part.cpu().numpy() for part in parts)
    blocks = (x.reshape(len(x), math.prod(x.shape[1:])) if flat and x.ndim > 2 else x for x in arrays)
    first = next(blocks)
    named = columns if columns is not None and first.ndim == 2 else None
    return write_blocks(out, chain([first], blocks), n, named)
