"""What there is: named models with their options, known data sets with their sources."""

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from jensen.bounds import BOUNDS, GRADIENTS
from jensen.cli.output import show
from jensen.data import KNOWN
from jensen.likelihoods import LIKELIHOODS
from jensen.nets import ACTIVATIONS, ARCHITECTURES
from jensen.posteriors import POSTERIORS
from jensen.priors import PRIORS
from jensen.recipes import RECIPES
from jensen.weights import METHODS
from jensen.weights import PRIORS as WEIGHT_PRIORS

CHOICES = {
    "prior": PRIORS,
    "posterior": POSTERIORS,
    "likelihood": LIKELIHOODS,
    "network": ARCHITECTURES,
    "activation": ACTIVATIONS,
    "bound": BOUNDS,
    "gradient": GRADIENTS,
}
"""The families that an option names a member of."""


def models(name: str | None, *, as_json: bool) -> None:
    """Prints the named models, or one of them with its options."""
    chosen = list(RECIPES) if name is None else [RECIPES[name].name]
    if as_json:
        show({model: _described(model) for model in chosen}, True)
        return
    console = Console()
    for model in chosen:
        recipe = RECIPES[model]
        console.print(f"[bold]{model}[/bold]  {recipe.title}")
        console.print(f"    {recipe.source}", style="dim", highlight=False)
    if name is None:
        console.print("\nOptions of each: [bold]jensen models NAME[/bold]; set them by --set KEY=VALUE.")
        return
    table = Table("option", "default", "what it is")
    for key, option in _options(name).items():
        choices = f" ({', '.join(option['choices'])})" if option["choices"] else ""
        table.add_row(key, str(option["default"]), option["description"] + choices)
    console.print(table)
    if RECIPES[name].targets is not None:
        console.print("\nEach method has options of its own, set in the same way:")
        for method, found in METHODS.items():
            own = ", ".join(key for key in found.options.model_fields if key not in _options(name))
            console.print(f"    [bold]{method}[/bold]  {own or 'none'}", highlight=False)


def known_data(*, as_json: bool) -> None:
    """Prints the known data sets."""
    if as_json:
        rows = {
            name: {
                "title": known.title,
                "source": known.source,
                "licence": known.licence,
                "splits": dict(known.splits),
                "event_shape": list(known.event_shape),
                "kind": known.kind,
                "verified": known.verified,
                "note": known.note,
            }
            for name, known in KNOWN.items()
        }
        show(rows, True)
        return
    table = Table(
        *(
            Column(title, overflow="fold")
            for title in ("name", "what", "splits", "one datum", "source and licence")
        )
    )
    for name, known in KNOWN.items():
        splits = ", ".join(f"{split} {n:,}" for split, n in known.splits.items())
        shape = " x ".join(str(side) for side in known.event_shape)
        table.add_row(name, known.title, splits, f"{shape} {known.kind}", f"{known.source}. {known.licence}")
    Console().print(table)


def _options(model: str) -> dict[str, dict[str, Any]]:
    defaults = RECIPES[model].defaults
    fields = RECIPES[model].config_type.model_fields
    labelled = RECIPES[model].targets is not None
    # The families that names stand for are those of autoencoders.
    choices: dict[str, Any] = CHOICES if RECIPES[model].solve is None and not labelled else {}
    if labelled:
        choices = {"method": METHODS, "prior": WEIGHT_PRIORS, "activation": ACTIVATIONS}
    return {
        key: {
            "default": defaults.get(key, field.get_default(call_default_factory=True)),
            "description": field.description,
            "choices": sorted(choices[key]) if key in choices else [],
        }
        for key, field in fields.items()
    }


def _described(model: str) -> dict[str, Any]:
    recipe = RECIPES[model]
    return {"title": recipe.title, "source": recipe.source, "options": _options(model)}
