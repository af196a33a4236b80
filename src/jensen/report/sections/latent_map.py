"""Where data lie in the space of the latents."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jensen.distributions import diagonal_normal
from jensen.report.charts import BLUE, CLASSES, MUTED, chart, with_legend
from jensen.report.markup import Markup, figure
from jensen.report.material import Material
from jensen.report.pictures import Floats
from jensen.report.sections.section import Section
from jensen.report.wording import count, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEWEST_FOR_TSNE = 12


def latent_map(material: Material) -> Section:
    """The section."""
    body = _line(material) if material.means.shape[1] == 1 else _plane(material)
    return Section("latent-map", "A map of the latent space", body)


def _plane(material: Material) -> Markup:
    """Posterior means in two dimensions."""
    means = material.means
    n = len(means)
    if means.shape[1] == 2:
        places, axis = means, ("latent 0", "latent 1")
        how = "The two latents themselves: each dot is the posterior mean of one datum."
    elif n >= _FEWEST_FOR_TSNE and np.ptp(means, axis=0).max() > 0:
        places, axis = _tsne(means, material.seed), None
        how = (
            "The posterior means, laid out by t-SNE: dots that are close have close latents. Distances between "
            "groups, their size and the axes mean nothing."
        )
    else:
        first, second = material.order[:2]
        places, axis = means[:, [first, second]], (f"latent {first}", f"latent {second}")
        how = "The two latents that say most: each dot is the posterior mean of one datum."
    colours, entries, scale = _colours(material.dataset.y, n)
    circle = axis is not None and means.shape[1] == 2 and _normal_prior(material)

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        if circle:
            angle = np.linspace(0, 2 * np.pi, 200)
            ring = np.stack([np.cos(angle), np.sin(angle)], 1)
            for sds in (1, 2):
                axes.plot(
                    *(material.prior_mean + sds * material.prior_scale * ring).T, color=MUTED, linewidth=0.9
                )
        dots = axes.scatter(*places.T, s=34, alpha=0.8, linewidths=0, **colours)
        axes.set_aspect("equal", adjustable="datalim")
        if axis is None:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        else:
            axes.set(xlabel=axis[0], ylabel=axis[1])
        if scale:
            bar = drawn.colorbar(dots, ax=axes, shrink=0.6, aspect=24, pad=0.02, label="label")
            bar.outline.set_visible(False)

    caption = f"{how} {count(n, 'datum', 'data')}: {material.origin}."
    caption += " Colours are labels, which the model did not see." if material.dataset.y is not None else ""
    caption += " The rings are one and two standard deviations of the prior." if circle else ""
    drawn = chart(paint, "posterior means in two dimensions", width=760, height=560)
    return figure(with_legend(entries, drawn) if entries else drawn, caption)


def _line(material: Material) -> Markup:
    """One latent: how its posterior means are spread."""
    values, y = material.means[:, 0], material.dataset.y
    low, high = float(values.min()), float(values.max())
    if _normal_prior(material):
        low = min(low, float(material.prior_mean[0] - 3 * material.prior_scale[0]))
        high = max(high, float(material.prior_mean[0] + 3 * material.prior_scale[0]))
    edges = np.linspace(low, high if high > low else low + 1, 49)
    groups = _groups(y) if y is not None and not _continuous(y) else None
    stacks = [("data", BLUE, values)] if groups is None else [(g, c, values[rows]) for g, c, rows in groups]

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        below = np.zeros(len(edges) - 1)
        for _, colour, some in stacks:
            above = below + np.histogram(some, edges)[0]
            axes.stairs(above, edges, baseline=below, fill=True, color=colour, alpha=0.85)
            below = above
        if _normal_prior(material):
            at = np.linspace(edges[0], edges[-1], 300)
            scale = material.prior_scale[0]
            density = np.exp(-0.5 * ((at - material.prior_mean[0]) / scale) ** 2) / (
                scale * np.sqrt(2 * np.pi)
            )
            axes.plot(at, density * len(values) * (edges[1] - edges[0]), color=MUTED, linewidth=1.4)
        axes.set(xlabel="latent 0", ylabel="data")

    caption = f"The one latent: how the posterior means of {count(len(values), 'datum', 'data')} are spread"
    caption += "; the line is the prior" if _normal_prior(material) else ""
    drawn = chart(paint, "histogram of posterior means", height=300)
    entries = [] if groups is None else [(colour, name) for name, colour, _ in groups]
    caption += f". They are {material.origin}."
    return figure(with_legend(entries, drawn) if entries else drawn, caption)


def _normal_prior(material: Material) -> bool:
    return diagonal_normal(material.run.model.prior()) is not None


def _tsne(means: Floats, seed: int) -> Floats:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(means) - 1) / 3)
    spread = means / max(float(means.std()), 1e-12)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(spread)


def _continuous(y: NDArray[Any]) -> bool:
    """Whether labels are numbers on a scale and not classes."""
    return y.dtype.kind in "iuf" and len(np.unique(y)) > 20


def _colours(y: NDArray[Any] | None, n: int) -> tuple[dict[str, Any], list[tuple[str, str]], bool]:
    """How to colour the dots, the legend, and whether they need a scale."""
    if y is None:
        return {"color": BLUE}, [], False
    if _continuous(y):
        return {"c": y.astype(float), "cmap": _scale()}, [], True
    colours = np.empty(n, dtype=object)
    groups = _groups(y)
    for _, colour, rows in groups:
        colours[rows] = colour
    return {"color": colours.tolist()}, [(colour, name) for name, colour, _ in groups], False


def _scale() -> Any:
    """Colours of numbers, none so dark or so light that it is lost on the page."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("labels", ["#3b7dd8", "#a679b8", "#e8833a"])


def _groups(y: NDArray[Any]) -> list[tuple[str, str, NDArray[np.intp]]]:
    """The classes with their colours and rows: the largest in an order that people expect, the others as one."""
    values, sizes = np.unique(y, return_counts=True)
    most = len(CLASSES) if len(values) <= len(CLASSES) else len(CLASSES) - 1
    kept = np.sort(np.argsort(-sizes, kind="stable")[:most])
    groups = [
        (label(values[k].item()), CLASSES[place], np.flatnonzero(y == values[k]))
        for place, k in enumerate(kept)
    ]
    if len(values) > most:
        rest = np.flatnonzero(~np.isin(y, values[kept]))
        groups.append((f"{len(values) - most} other labels", MUTED, rest))
    return groups
