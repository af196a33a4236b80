"""The commands. Whatever takes time to import is imported inside them, so that --help answers at once."""

from pathlib import Path
from typing import Annotated

import typer

from jensen.cli.options import Data, Device, Json, Log, Out, RunFolder, Seed, Stream, Target, column, pairs

app = typer.Typer(
    name="jensen",
    help="Latent-variable models and variational inference: every model with a bound on its evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> bool:
    if wanted:
        from jensen import __version__

        print(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Latent-variable models and variational inference: every model with a bound on its evidence."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the Run.")] = Path("demo-run"),
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Fit, evaluate and report on embedded data, in about two minutes."""
    from jensen.cli import actions

    actions.demo(out, seed=seed, device=device, as_json=json)


@app.command()
def fit(
    data: Data,
    model: Annotated[str, typer.Option("--model", help="Named model; see 'jensen models'.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the Run.", metavar="RUN")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the model.", metavar="KEY=VALUE")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            "--valid",
            help="Validation data, or the part of the data to hold out; by default the known set's own, else 0.1.",
            metavar="DATA|FRACTION",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the fit in RUN.")] = False,
    log: Log = None,
    target: Target = None,
    stream: Stream = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Fit a model to data and keep it as a Run."""
    from jensen.cli import actions

    options = pairs(settings or [])
    if epochs is not None:
        options["epochs"] = str(epochs)
    actions.fit(
        data,
        model,
        out,
        options,
        valid=valid,
        resume=resume,
        stream=stream,
        logs=log or [],
        target=column(target),
        seed=seed,
        device=device,
        as_json=json,
    )


@app.command()
def evaluate(
    run: RunFolder,
    data: Data,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="Importance samples for each datum (by default 5000), or sets of weights of networks.",
            min=1,
        ),
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            "--unknown",
            help="Data of another kind: how well does the uncertainty of predicted labels find them?",
            metavar="DATA",
        ),
    ] = None,
    gap: Annotated[
        bool,
        typer.Option("--gap", help="Also measure how far the bounds lie below log p(x), and why."),
    ] = False,
    gap_data: Annotated[int, typer.Option("--gap-data", help="On how many data.", min=1)] = 100,
    target: Target = None,
    stream: Stream = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Evaluate a Run on data: bounds, NLL with its errors, bits per dimension; of labels accuracy, NLL, calibration."""
    from jensen.cli import actions

    actions.evaluate(
        run,
        data,
        samples,
        gap_data=gap_data if gap else None,
        unknown=unknown,
        stream=stream,
        target=column(target),
        seed=seed,
        device=device,
        as_json=json,
    )


@app.command()
def predict(
    run: RunFolder,
    data: Data,
    out: Out,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Sets of weights; by default as the Run says.", min=1)
    ] = None,
    target: Target = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write predicted labels of data with their uncertainty (bayes-classifier, bayes-regressor)."""
    from jensen.cli import actions

    actions.predict(run, data, out, samples, target=column(target), seed=seed, device=device, as_json=json)


@app.command()
def sample(
    run: RunFolder,
    out: Out,
    n: Annotated[int, typer.Option("-n", help="How many.", min=1)] = 64,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw new data."""
    from jensen.cli import actions

    actions.sample(run, n, out, seed=seed, device=device, as_json=json)


@app.command()
def encode(
    run: RunFolder,
    data: Data,
    out: Out,
    target: Target = None,
    stream: Stream = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write the posterior means of the latents of data."""
    from jensen.cli import actions

    actions.encode(
        run, data, out, stream=stream, target=column(target), seed=seed, device=device, as_json=json
    )


@app.command()
def decode(
    run: RunFolder,
    latents: Annotated[Path, typer.Argument(help="Latents, (n, latent_dim).", metavar="FILE")],
    out: Out,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write the expected data of latents."""
    from jensen.cli import actions

    actions.decode(run, latents, out, seed=seed, device=device, as_json=json)


@app.command()
def score(
    run: RunFolder,
    data: Data,
    out: Out,
    samples: Annotated[
        int, typer.Option("--samples", help="Importance samples for each datum.", min=1)
    ] = 1000,
    target: Target = None,
    stream: Stream = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write log p(x) of each datum, in nats."""
    from jensen.cli import actions

    actions.score(
        run, data, samples, out, stream=stream, target=column(target), seed=seed, device=device, as_json=json
    )


@app.command()
def reconstruct(
    run: RunFolder,
    data: Data,
    out: Out,
    target: Target = None,
    stream: Stream = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write what comes back of data from their posterior means."""
    from jensen.cli import actions

    actions.reconstruct(
        run, data, out, stream=stream, target=column(target), seed=seed, device=device, as_json=json
    )


@app.command()
def impute(
    run: RunFolder,
    data: Data,
    out: Out,
    target: Target = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write data with their missing cells filled by conditional means (ppca, factor-analysis, mixtures, hmm)."""
    from jensen.cli import actions

    actions.impute(run, data, out, target=column(target), seed=seed, device=device, as_json=json)


@app.command()
def report(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Option("--data", help="Data for the pictures; by default those kept with the Run.")
    ] = None,
    target: Target = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write one self-contained HTML file about a Run."""
    from jensen.cli import actions

    actions.report(run, data, target=column(target), seed=seed, device=device, as_json=json)


@app.command()
def compare(
    data: Data,
    models: Annotated[
        str,
        typer.Option("--models", help="Named models, with commas; LABEL=NAME for more than one of a kind."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the Runs, the table and the report.")] = Path(
        "comparison"
    ),
    seeds: Annotated[int, typer.Option("--seeds", help="Fits of each model.")] = 3,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="The budget: passes over the data, at most.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="The budget: training time of each fit, about.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of all models, or of one.", metavar="[LABEL.]KEY=VALUE"),
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            "--valid",
            help="Validation data, or the part of the data to hold out; by default the known set's own, else 0.1.",
            metavar="DATA|FRACTION",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            help="Data to judge on, or the part of the data to hold out; by default the known set's own, else 0.2.",
            metavar="DATA|FRACTION",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Importance samples for each test datum.", min=1)
    ] = 1000,
    stream: Stream = None,
    log: Log = None,
    target: Target = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compare models under one budget: several fits of each, one table, one report."""
    from jensen.cli import comparing

    comparing.compare(
        data,
        [name.strip() for name in models.split(",") if name.strip()],
        out,
        seeds=seeds,
        epochs=epochs,
        minutes=minutes,
        settings=pairs(settings or []),
        valid=valid,
        test=test,
        samples=samples,
        logs=log or [],
        stream=stream,
        target=column(target),
        seed=seed,
        device=device,
        as_json=json,
    )


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(help="The folder of a Run, or one that holds some.", metavar="RUN")],
    once: Annotated[bool, typer.Option("--once", help="Look once, and leave.")] = False,
    json: Json = False,
) -> None:
    """Show how a fit in progress is doing, or how it ended."""
    from jensen.cli.watching import watch as show

    show(run, once=once, as_json=json)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One model, with its options.", metavar="[NAME]")] = None,
    json: Json = False,
) -> None:
    """List the named models, or the options of one."""
    from jensen.cli import listings

    listings.models(name, as_json=json)


@app.command("data")
def known_data(json: Json = False) -> None:
    """List the known data sets."""
    from jensen.cli import listings

    listings.known_data(as_json=json)
