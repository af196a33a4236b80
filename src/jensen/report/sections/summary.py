"""The head of the report: what was fitted, how, and how good it is."""

import re
from collections.abc import Mapping
from math import log, prod
from typing import Any

from jensen.likelihoods import DENSITIES
from jensen.recipes import RECIPES
from jensen.report.markup import Markup, join, tag
from jensen.report.material import Material
from jensen.report.sections.training import best_epoch, kept_weights, status
from jensen.report.wording import LIKELIHOODS, count, decimals, duration, exact, number


def summary(material: Material) -> Markup:
    """Title, a paragraph in plain words, and the headline numbers as cards."""
    run = material.run
    return tag(
        "header",
        tag("p", "jensen report", class_="eyebrow"),
        tag("h1", title(material)),
        tag(
            "p",
            f"fitted {run.about.get('date', 'at an unknown time')[:10]} · written ",
            tag("time", f"{material.written:%Y-%m-%d %H:%M} UTC", datetime=material.written.isoformat()),
            class_="meta",
        ),
        tag("p", _what(material), " ", _how_good(material), class_="lead"),
        *(tag("p", warning, class_="note") for warning in _warnings(material)),
        _cards(material),
    )


def title(material: Material) -> str:
    """What the page is called."""
    return f"{material.run.recipe} on {material.run.about.get('data', 'unknown data')}"


def _what(material: Material) -> str:
    """What was fitted, and how."""
    run, config = material.run, material.run.config
    seconds = sum(record["seconds"] for record in run.history)
    latent = (
        f"one latent class of {config.latent_dim}"
        if material.discrete
        else count(config.latent_dim, "latent")
    )
    chosen = LIKELIHOODS.get(config.likelihood, config.likelihood)
    family = re.split(r"[;,]| whose | trained ", RECIPES[run.recipe].title)[0]
    text = (
        f"{'An' if family[0] in 'aeiou' else 'A'} {family} with {latent} was "
        f"fitted to {count(run.about.get('n', 0), 'datum', 'data')} of {run.about.get('data', 'unknown origin')}, "
        f"{_shape(material)}. Given its latents it describes a datum by {chosen}."
    )
    if not run.history:
        return f"{text} How it was trained is not recorded."
    epochs = count(run.history[-1]["epoch"], "epoch")
    return f"{text} Training {status(run)} after {epochs} ({duration(seconds)}); {kept_weights(run)}."


def _shape(material: Material) -> str:
    form, schema = material.form, material.run.schema
    cells = {
        "binary": "cells of 0 or 1",
        "uint8": "intensities from 0 to 255",
        "counts": "counts",
        "real": "real numbers",
    }[schema.kind]
    if form is not None and not form.guessed:
        return f"{form.height}×{form.width} pictures{' in colour' if form.channels == 3 else ''} of {cells}"
    if schema.columns is not None:
        return f"rows of {count(len(schema.columns), 'column')} of {cells}"
    return f"each with {count(prod(schema.event_shape), 'cell')} of {cells}"


def seen(material: Material) -> str:
    """How the data of the evaluation relate to those that the model was fitted on, as far as one can tell."""
    run, numbers = material.run, material.numbers
    about, name = run.about, numbers.get("data")
    validated = bool(about.get("n_valid"))
    if material.own_numbers and material.origin.startswith("training data"):
        return "which it was fitted on, so new data will do worse"
    kept = run.examples.name if run.examples is not None else None
    if name == about.get("data"):
        if material.own_numbers and material.dataset.name == kept and validated:
            return "which it was not fitted on, but which chose the weights"
        return "of the same name as those it was fitted on, so it may have seen them"
    if validated and name == kept:
        return "which it was not fitted on, but which chose the weights"
    return "which it had not seen, going by their name"


def _how_good(material: Material) -> Markup:
    numbers = material.numbers
    error = numbers.get("nll_test_standard_error")
    nll, places = numbers["nll"], decimals(numbers["nll"], error)
    spread = f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{number(error, places)}" if error is not None else ""
    how = "of a density, so it may be negative" if _density(material) else "smaller is better"
    gap = number(numbers["gap"], decimals(numbers["gap"], numbers["nll_standard_error"]))
    return join(
        f"On {count(numbers['n'], 'datum', 'data')} of {numbers.get('data')}, {seen(material)}, its negative "
        "log-likelihood is ",
        tag("b", f"{number(nll, places)}{spread} nats a datum"),
        f" ({how}), or ",
        tag("b", f"{number(numbers['bits_per_dim'], 3)} bits a dimension"),
        ". The ELBO, which was trained, lies " if _trains_bound(material) else ". The ELBO lies ",
        f"{gap} nats below log p(x).",
    )


def _density(material: Material) -> bool:
    return material.run.config.likelihood in DENSITIES


def _trains_bound(material: Material) -> bool:
    config = material.run.config
    return config.bound == "elbo" and config.beta == 1 and config.free_bits == 0


def _warnings(material: Material) -> list[str]:
    """What a reader must not miss."""
    run, config, numbers = material.run, material.run.config, material.numbers
    found: list[str] = []
    if material.own_numbers:
        found.append(
            f"Nobody had evaluated this Run, so the report did it itself, on {count(numbers['n'], 'datum', 'data')} "
            f"({material.origin}) with {count(numbers['samples'], 'importance sample')} each. For numbers to quote: "
            "jensen evaluate RUN DATA."
        )
    if run.constant is not None:
        found.append(f"{run.constant}.")
    if config.bound == "elbo" and config.beta != 1:
        found.append(
            f"Training maximised log-likelihood − {config.beta:g} × KL, which is not the bound on log p(x). All "
            "numbers here are of the true bound, with weight 1."
        )
    if config.free_bits > 0:
        found.append(
            f"Training did not punish the first {config.free_bits:g} nats of KL, so its objective is not the bound "
            "on log p(x). All numbers here are of the true bound."
        )
    if run.history and run.history[-1]["status"] in ("interrupted", "running"):
        found.append(
            f"Training {status(run)} after {run.history[-1]['epoch']} of {config.epochs} epochs; "
            "the model may not be as good as it could be. jensen fit ... --resume goes on."
        )
    if run.history and run.history[-1]["skipped"]:
        skipped = run.history[-1]["skipped"]
        found.append(
            f"{count(skipped, 'step')} of {run.history[-1]['step']:,} had a gradient that was not finite and "
            "left the weights as they were. A few are harmless; many call for a lower learning_rate."
        )
    return found


def _cards(material: Material) -> Markup:
    run, n = material.run, material.numbers
    over, drawn = n.get("nll_test_standard_error"), n["nll_standard_error"]
    places = max(2, min(decimals(n["nll"], drawn), 3))
    cells = prod(run.schema.event_shape)
    bits = None if over is None else over / cells / log(2)
    best = best_epoch(run)
    valid = None if best is None else best["valid"]
    cards = (
        (
            "Negative log-likelihood",
            exact(n["nll"], places),
            "nats",
            f"± {number(over, places)} over data, ± {number(drawn, places + 1)} from importance sampling",
        ),
        (
            "Bits per dimension",
            exact(n["bits_per_dim"], 3),
            "bits",
            f"± {number(bits, 3)} over data; {count(cells, 'cell')} a datum",
        ),
        (
            "Evidence lower bound (ELBO)",
            exact(n["elbo"], places),
            "nats",
            _over_data(n, "elbo")
            + (
                "larger is better"
                if valid is None
                else f"best on validation data: {number(valid['elbo'], 1)}"
            ),
        ),
        (
            "Gap of the bound",
            exact(n["gap"], places),
            "nats",
            _over_data(n, "gap") + "how far the ELBO lies below log p(x), at least",
        ),
        (
            "Active units",
            exact(n["active_units"]),
            f"of {run.config.latent_dim}",
            "latents whose posterior mean follows the data",
        ),
        (
            "Reconstruction error",
            exact(n["reconstruction_error"]),
            "",
            _over_data(n, "reconstruction_error") + "mean squared error a cell, in the data's units squared",
        ),
    )
    return tag("div", *(_card(*card) for card in cards), class_="cards")


def _over_data(numbers: Mapping[str, Any], key: str) -> str:
    """The standard error of a number over the data, as the beginning of a line; nothing where there is none."""
    error = numbers.get(f"{key}_test_standard_error")
    return "" if error is None else f"± {number(error, decimals(error, error))} over data; "


def _card(name: str, value: Any, unit: str, sub: str) -> Markup:
    return tag(
        "div",
        tag("div", name, class_="name"),
        tag("div", value, " ", tag("span", unit, class_="unit"), class_="value"),
        tag("div", sub, class_="sub"),
        class_="card",
    )
