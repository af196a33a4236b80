"""All numbers, with their errors and what each means."""

from math import log, prod
from typing import Any

from jensen.likelihoods import DENSITIES
from jensen.report.markup import Markup, join, table, tag
from jensen.report.material import Material
from jensen.report.sections.section import Section
from jensen.report.wording import decimals, exact


def numbers(material: Material) -> Section:
    """The section."""
    shown = material.numbers
    where = (
        f"On {shown.get('data')}: {shown['n']:,} data, {shown['samples']:,} importance samples each, "
        f"seed {shown.get('seed', '?')}. "
        "Means over the data; a standard error over data says how much other data of the same kind would change "
        "the number, one of importance sampling how much other draws would."
    )
    body = join(tag("p", where), _table(material))
    if len(material.run.evaluations) > 1:
        body = join(body, tag("h3", "All evaluations of this Run"), _history(material.run.evaluations))
    return Section("numbers", "All numbers", body)


def _table(material: Material) -> Markup:
    n = material.numbers
    rows = [
        (name, exact(n.get(key), _places(key, n)), errors, unit, meaning)
        for key, name, errors, unit, meaning in _rows(material)
        if key in n
    ]
    return table(("number", "value", "standard error", "unit", "what it is"), list(rows), class_="numbers")


def _places(key: str, n: Any) -> int | None:
    if key in ("n", "samples", "active_units") or n.get(key) is None:
        return None
    if key in ("nll", "elbo", "gap", "log_likelihood", "kl"):
        return max(2, min(4, decimals(n[key], n["nll_standard_error"])))
    return None


def _error(value: float | None) -> Markup:
    return exact(value, None if value is None else decimals(value, value))


def _rows(material: Material) -> list[tuple[str, str, Markup | str, str, str]]:
    n, run = material.numbers, material.run
    cells = prod(run.schema.event_shape)
    over, drawn = n.get("nll_test_standard_error"), n["nll_standard_error"]
    density = run.config.likelihood in DENSITIES

    def over_data(key: str) -> Markup | str:
        error = n.get(f"{key}_test_standard_error")
        return "–" if error is None else join(_error(error), " over data")

    def errors(unit: float | int) -> Markup:
        parts = join(_error(drawn / unit), " of sampling")
        return parts if over is None else join(_error(over / unit), " over data", tag("br"), parts)

    what = "density in nats a cell; may be negative" if density else "nats to describe one cell"
    bits = (
        "the same in bits; may be negative"
        if density
        else "bits to store one cell, with this model as the code"
    )
    return [
        (
            "nll",
            "NLL",
            errors(1),
            "nats a datum",
            "minus log p(x), by importance sampling; smaller is better",
        ),
        ("elbo", "ELBO", over_data("elbo"), "nats a datum", "lower bound on log p(x); larger is better"),
        (
            "gap",
            "gap",
            over_data("gap"),
            "nats a datum",
            "log p(x) less ELBO: what the posterior's family and encoder cost",
        ),
        (
            "log_likelihood",
            "log-likelihood",
            over_data("log_likelihood"),
            "nats a datum",
            "the ELBO's first term: E log p(x|z)",
        ),
        ("kl", "KL", over_data("kl"), "nats a datum", "the ELBO's second term: what the latents cost"),
        ("nats_per_dim", "nats per dimension", errors(cells), "nats a cell", what),
        ("bits_per_dim", "bits per dimension", errors(cells * log(2)), "bits a cell", bits),
        (
            "reconstruction_error",
            "reconstruction error",
            over_data("reconstruction_error"),
            "units² a cell",
            "mean squared error of what comes back from the posterior mean",
        ),
        (
            "active_units",
            "active units",
            "–",
            f"of {run.config.latent_dim}",
            "latents whose posterior mean varies over the data by more than 0.01",
        ),
        ("n", "data", "–", "", "data that were evaluated"),
        ("samples", "importance samples", "–", "a datum", "draws from the posterior behind each log p(x)"),
    ]


def _history(evaluations: list[dict[str, Any]]) -> Markup:
    rows: list[tuple[object, ...]] = [
        (
            e.get("data"),
            exact(e["n"]),
            exact(e["samples"]),
            exact(e["nll"], 2),
            _error(e.get("nll_test_standard_error")),
            _error(e["nll_standard_error"]),
            exact(e["elbo"], 2),
            exact(e["bits_per_dim"], 4),
        )
        for e in evaluations
    ]
    head = ("data", "n", "samples", "NLL", "± over data", "± sampling", "ELBO", "bits per dim")
    return table(head, rows)
