"""The options of methods, typed and checked."""

from collections.abc import Mapping
from math import inf
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jensen.errors import ConfigError, unknown


class Options(BaseModel):
    """What a method can be told; each method has options of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingOptions(Options):
    """How the weights are trained, by Adam."""

    epochs: int = Field(200, ge=0, description="passes over the data; 0 leaves the weights as they are")
    batch_size: int = Field(100, gt=0, description="data in a batch")
    learning_rate: float = Field(1e-3, gt=0, description="highest step size of Adam")
    warm_up: float = Field(0.01, ge=0, lt=1, description="part of the steps over which the step size grows")
    decay: bool = Field(
        True, description="whether the step size then falls along a half cosine to zero, or stays"
    )
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient")


Kind = TypeVar("Kind", bound=Options)


def parse(kind: type[Kind], options: Mapping[str, Any], method: str) -> Kind:
    """Options as typed ones.

    Args:
        kind: The method's.
        options: As the user gave them; values may be text, as from a command line.
        method: Its name, for messages.

    Raises:
        ConfigError: If an option doesn't exist (the message names the nearest one) or can't take its value.

    Example:
        >>> parse(TrainingOptions, {"epochs": "3"}, "map").epochs
        3
    """
    for key in options:
        if key not in kind.model_fields:
            raise ConfigError(unknown(f"option of method '{method}'", key, kind.model_fields))
    values = {k: None if isinstance(v, str) and v.lower() == "none" else v for k, v in options.items()}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1]) or "options"
        wanted = [e["msg"].lower() for e in error.errors() if e["input"] is first["input"]]
        raise ConfigError(
            f"option {where} of method '{method}': {', or '.join(dict.fromkeys(wanted))}, got {first['input']!r}"
        ) from None


def is_scale(value: Any) -> bool:
    """Whether a value is a number, or the text of one, that can be a scale: above 0 and finite.

    Example:
        >>> is_scale(0.1), is_scale("2"), is_scale(-1), is_scale([1])
        (True, True, False, False)
    """
    try:
        return 0 < float(value) < inf
    except (TypeError, ValueError):
        return False
