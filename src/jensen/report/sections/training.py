"""How the fit went, in facts."""

from typing import Any

import numpy as np

from jensen.report.markup import join, tag
from jensen.report.material import Material
from jensen.report.sections.section import Section
from jensen.report.wording import count, decimals, duration, number
from jensen.runs import Run

_STATUS = {
    "finished": "finished",
    "stopped early": "stopped early",
    "interrupted": "was interrupted",
    "running": "was cut short",
}


def training(material: Material) -> Section:
    """The section."""
    run, config = material.run, material.run.config
    n_valid = run.about.get("n_valid")
    rows: list[tuple[object, object]] = [
        ("training data", number(run.about.get("n"))),
        ("validation data", number(n_valid) if n_valid else "none"),
        ("weights to learn", number(sum(p.numel() for p in run.model.parameters()))),
        ("objective", objective(run)),
        ("batch", count(config.batch_size, "datum", "data")),
        ("highest step size", f"{config.learning_rate:g}"),
    ]
    if run.history:
        rows += _history(run)
    threads = run.about.get("threads")
    machine = str(run.about.get("device", "unknown"))
    rows.append(("device", machine if threads is None else f"{machine}, {count(threads, 'thread')}"))
    source = run.about.get("source")
    lines = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return Section(
        "training-details",
        "Training in detail",
        join(
            tag("div", tag("table", tag("tbody", *lines), class_="facts"), class_="scroll"),
            tag("p", "Source of the data: ", source, class_="meta") if source else None,
        ),
    )


def _history(run: Run) -> list[tuple[object, object]]:
    """Facts that the record of the epochs gives."""
    last, best = run.history[-1], best_epoch(run)
    rates = [record["rate"] for record in run.history if record["rate"] > 0]
    rows: list[tuple[object, object]] = [
        (
            "how it ended",
            f"{_STATUS[last['status']].removeprefix('was ')}, {last['epoch']:,} of {run.config.epochs:,} epochs",
        ),
        ("steps", number(last["step"])),
        ("steps skipped for a gradient that was not finite", number(last["skipped"])),
        ("time in steps, without validation", duration(sum(record["seconds"] for record in run.history))),
    ]
    if rates:
        rows.append(("speed, median over epochs", f"{np.median(rates):,.0f} data per second"))
    if (late := second_stage(run)) is not None:
        rows.append(("first epoch on the importance-weighted bound", number(late)))
    if best is not None:
        elbo, error = best["valid"]["elbo"], best["valid"]["standard_error"]
        places = decimals(elbo, error)
        rows.append(("best epoch", number(best["epoch"])))
        rows.append(
            ("ELBO on validation data there", f"{number(elbo, places)} ± {number(error, places)} nats")
        )
        if "bound" in best["valid"]:
            bound = number(best["valid"]["bound"], places)
            rows.append(("bound that was maximised, on validation data there", f"{bound} nats"))
    return rows


def second_stage(run: Run) -> int | None:
    """The first epoch on the bound that ends the fit; None where there is none."""
    return next((record["epoch"] for record in run.history if record.get("stage")), None)


def best_epoch(run: Run) -> dict[str, Any] | None:
    """The record of the epoch whose weights were best on validation data; None without validation."""
    best = [record for record in run.history if record["best"] and record["valid"] is not None]
    return best[-1] if best else None


def status(run: Run) -> str:
    """How training ended, as the rest of a sentence that begins with it."""
    return _STATUS[run.history[-1]["status"]]


def kept_weights(run: Run) -> str:
    """Which weights the Run has."""
    best = best_epoch(run)
    if best is not None:
        held_out = count(run.about.get("n_valid", 0), "validation datum", "validation data")
        return f"the weights are those of epoch {best['epoch']}, which did best on {held_out}"
    if run.config.averaging is not None:
        return "the weights are a moving average over the steps"
    return "the weights are those of the last step"


def objective(run: Run) -> str:
    """What training maximised, in words."""
    config = run.config
    if config.bound != "elbo":
        name = {"iwae": "importance-weighted bound", "renyi": "Rényi bound of order one half"}
        words = f"{name.get(config.bound, config.bound)} with {count(config.samples, 'draw')}"
    elif config.beta != 1 or config.free_bits > 0:
        words = f"log-likelihood − {config.beta:g} × KL, not a bound"
        words += f"; {config.free_bits:g} nats of KL free" if config.free_bits > 0 else ""
    else:
        words = f"ELBO with {count(config.samples, 'draw')} a datum"
    if config.kl_warm_up > 0:
        words += f"; the weight of the KL grew over the first {config.kl_warm_up:g} epochs"
    return f"{words}; gradient: {config.gradient}"
