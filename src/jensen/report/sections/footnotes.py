"""What the numbers are, and what they are not."""

from jensen.likelihoods import DENSITIES
from jensen.report.markup import Markup, join, tag
from jensen.report.material import Material
from jensen.report.sections.section import Section


def footnotes(material: Material) -> Section:
    """The section."""
    items = [_nll(material), _gap(), _bits(material), _errors(), _rest()]
    return Section(
        "footnotes",
        "What these numbers are, and are not",
        tag("ol", *(tag("li", item) for item in items), class_="footnotes"),
    )


def _nll(material: Material) -> Markup:
    samples = material.numbers["samples"]
    return join(
        tag("b", "NLL. "),
        f"log p(x) is an integral over all latents. It is estimated from {samples:,} draws of the posterior for each "
        "datum, weighed by p(x, z) / q(z|x). In expectation the estimate of the NLL lies above the true value: it is "
        "an upper bound, which falls towards the truth as the number of draws grows. NLLs of two models compare only "
        "with the same data, the same number of draws, and the same binarisation where data are binarised.",
    )


def _gap() -> Markup:
    return join(
        tag("b", "Gap. "),
        "The difference of the two estimates, from the same draws. Since importance sampling stays below log p(x) in "
        "expectation, the true gap is at least as large.",
    )


def _bits(material: Material) -> Markup:
    if material.run.config.likelihood in DENSITIES:
        text = (
            "These data are continuous, so p(x) is a density: its nats and bits depend on the unit of the data, may "
            "be negative, and are no code length. They compare models on the same data in the same units, nothing else."
        )
    else:
        text = (
            "These data are discrete, so p(x) is a probability: the NLL in bits is the length of the code that the "
            "model gives a datum, and bits per dimension is that length over the number of cells."
        )
    return join(tag("b", "Nats and bits. "), text)


def _errors() -> Markup:
    return join(
        tag("b", "Standard errors. "),
        "That over data treats the data as independent draws of what the model will meet. That of importance sampling "
        "is computed from the weights that were drawn, and can't know of regions that no draw has reached: with a "
        "poor posterior it is too small. Neither says how much another seed of the fit would change.",
    )


def _rest() -> Markup:
    return join(
        tag("b", "Pictures. "),
        "They show some data and some draws, chosen by the seed and not by hand. A good picture is no proof of a good "
        "density, nor the reverse.",
    )
