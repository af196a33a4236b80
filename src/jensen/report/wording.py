"""Numbers as people read them, with their exact value beside."""

from math import floor, isfinite, log10

from jensen.report.markup import Markup, tag

LIKELIHOODS = {
    "bernoulli": "a Bernoulli distribution for each cell",
    "continuous-bernoulli": "a continuous Bernoulli distribution for each cell",
    "normal": "a normal distribution for each cell",
    "logistic-256": "a logistic distribution over the 256 intensities for each cell",
    "categorical": "a categorical distribution for each cell",
    "poisson": "a Poisson distribution for each cell",
    "negative-binomial": "a negative binomial distribution for each cell",
}
"""What each likelihood is, in words."""


def decimals(value: float | int, error: float | None = None) -> int:
    """How many decimals to show: two digits of the error, else about four digits of the value.

    Example:
        >>> decimals(168.4811, 1.17), decimals(0.01234)
        (1, 5)
    """
    if error is not None and isfinite(error) and error > 0:
        return min(6, max(0, 1 - floor(log10(error))))
    if not isfinite(value) or value == 0:
        return 2
    return min(6, max(0, 3 - floor(log10(abs(value)))))


def number(value: float | int | None, places: int | None = None) -> str:
    """A number with thousands set apart and a true minus sign; a dash where there is none.

    Example:
        >>> number(-1234.5, 1)
        '\u22121,234.5'
    """
    if value is None:
        return "–"
    if not isfinite(value):
        return str(value)
    if isinstance(value, int) and places is None:
        return f"{value:,}".replace("-", "\u2212")
    written = f"{value:,.{decimals(value) if places is None else places}f}"
    if not float(written.replace(",", "")):
        written = written.removeprefix("-")
    return written.replace("-", "\u2212")


def exact(value: float | int | None, places: int | None = None) -> Markup:
    """A number as people read it, with its exact value for programs and for those who point at it."""
    if value is None:
        return tag("span", "–")
    return tag("data", number(value, places), value=repr(value), title=repr(value))


def count(n: int, one: str, many: str | None = None) -> str:
    """A number of things.

    Example:
        >>> count(1, "epoch"), count(1200, "latent")
        ('1 epoch', '1,200 latents')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def duration(seconds: float | int) -> str:
    """A time in the unit that suits it.

    Example:
        >>> duration(75), duration(7330)
        ('1 min 15 s', '2 h 2 min')
    """
    if seconds < 0.01:
        return "under 0.01\N{NO-BREAK SPACE}s"
    if seconds < 10:
        return f"{seconds:.2f}\N{NO-BREAK SPACE}s"
    if seconds < 60:
        return f"{seconds:.0f}\N{NO-BREAK SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def label(value: object, length: int = 30) -> str:
    """The name of a class, or a number that is a label.

    Example:
        >>> label(3.0), label(2.123456), label("versicolor")
        ('3', '2.123', 'versicolor')
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else number(value)
    return shorten(str(value), length)


def shorten(text: str, length: int = 18) -> str:
    """A name on one line that fits below a picture.

    Example:
        >>> shorten("mean of the first measurement 12", 12)
        'mean of…t 12'
    """
    line = " ".join(text.split())
    # Columns that are numbered differ at their end.
    return line if len(line) <= length else f"{line[: length - length // 3 - 1]}…{line[-(length // 3) :]}"
