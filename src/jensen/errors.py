"""The errors a user meets; every message says what was got, what was wanted, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class JensenError(Exception):
    """Base of every error that jensen raises on purpose."""


class DataError(JensenError, ValueError):
    """The data can't be used: unreadable, empty, not finite, or not what the model was fitted on."""


class ShapeError(DataError):
    """An array has another shape than the one that was asked for."""


class SupportError(DataError):
    """A value lies outside the support of the likelihood."""


class ConfigError(JensenError, ValueError):
    """An option doesn't exist or has a value that it can't take."""


class BoundError(JensenError, ValueError):
    """A bound or gradient estimator needs something that the model's terms don't have."""


class FitError(JensenError, RuntimeError):
    """Training can't go on."""


class RunError(JensenError, ValueError):
    """A folder is not a Run, or its files are damaged."""


def unknown(kind: str, got: str, options: Iterable[str]) -> str:
    """The message for a name that isn't one of ``options``; it names the nearest one.

    Args:
        kind: What the name stands for, as in "prior".
        got: The name that was given.
        options: The names there are.

    Returns:
        One line of text.

    Example:
        >>> unknown("prior", "norml", ["normal", "mixture"])
        "unknown prior 'norml'; did you mean 'normal'? There are: mixture, normal"
    """
    names = sorted(options)
    near = get_close_matches(got, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"unknown {kind} '{got}'{hint} There are: {', '.join(names)}"
